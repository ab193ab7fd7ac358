"""EWC: the penalty, and the Fisher information that weighs it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from pipeline.config.strategies import StrategySettings
from pipeline.models import TaskModel, TaskTensors
from pipeline.strategies import fisher as fisher_module
from pipeline.strategies.batch import cross_entropy
from pipeline.strategies.ewc import EWC
from pipeline.strategies.fisher import exact_fisher
from tests.strategies import OWN, PLANS, batch_of, gradients, network, random_task, strategy


def ewc(plan: StrategySettings = PLANS["ewc"], **changes: object) -> EWC:
    """EWC before its first task."""
    own = strategy(plan.model_copy(update=changes))
    assert isinstance(own, EWC)
    return own


def by_hand(penalty_clip: float) -> tuple[EWC, TaskModel]:
    """One task learnt, with lambda 3: weights (1, -2) and 4 now; (0.5, 0) and 4.5 then; Fisher (2, 0.25) and 8."""
    model = TaskModel(nn.Linear(2, 1), [[0], [0]], "shared")
    with torch.no_grad():
        for parameter, values in zip(model.parameters(), ([[1.0, -2.0]], [4.0]), strict=True):
            parameter.copy_(torch.tensor(values))
    own = ewc(penalty_clip=penalty_clip)
    own.anchor = [torch.tensor([[0.5, 0.0]]), torch.tensor([4.5])]
    own.importance = [torch.tensor([[2.0, 0.25]]), torch.tensor([8.0])]
    own.tasks = 1
    return own, model


def penalty(own: EWC, model: nn.Module) -> Tensor:
    """lambda sum_i F_i (theta_i - theta*_i)^2."""
    terms = zip(model.parameters(), own.importance, own.anchor, strict=False)
    return (own.plan.ewc_lambda or 0.0) * sum(((f * (p - a) ** 2).sum() for p, f, a in terms), torch.zeros(()))


def test_penalty_and_gradient_are_the_formulas() -> None:
    own, model = by_hand(penalty_clip=0.0)
    # 3 (2 x 0.5^2 + 0.25 x (-2)^2 + 8 x (-0.5)^2) and 2 x 3 x (2 x 0.5, 0.25 x -2, 8 x -0.5)
    assert penalty(own, model).item() == 3 * (0.5 + 1.0 + 2.0)
    assert [gradient.tolist() for gradient in own.penalty_gradient(model)] == [[[6.0, -3.0]], [-24.0]]


def test_the_gradient_is_that_of_the_penalty() -> None:
    model = network(normalised=True)
    own = ewc(penalty_clip=0.0)
    own.end_task(model, random_task(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand_like(parameter))
    wanted = torch.autograd.grad(penalty(own, model), list(model.parameters()))
    torch.testing.assert_close(own.penalty_gradient(model), list(wanted))
    assert any((gradient != 0).any() for gradient in wanted)


@pytest.mark.parametrize("clip", [0.5, 20.0, 100.0])
def test_the_gradient_of_the_penalty_is_clipped_to_its_norm(clip: float) -> None:
    free, model = by_hand(penalty_clip=0.0)
    plain = torch.cat([gradient.flatten() for gradient in free.penalty_gradient(model)])
    own, _ = by_hand(penalty_clip=clip)
    found = torch.cat([gradient.flatten() for gradient in own.penalty_gradient(model)])
    assert float(found.norm()) == pytest.approx(min(float(plain.norm()), clip))
    torch.testing.assert_close(found / found.norm(), plain / plain.norm())


def test_at_the_anchor_there_is_no_pull() -> None:
    model = network()
    own = ewc()
    own.end_task(model, random_task(0))
    assert penalty(own, model).item() == 0
    assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in own.penalty_gradient(model))


def test_before_the_first_task_ends_ewc_is_naive() -> None:
    model, batch = network(), batch_of(random_task(0))
    own = ewc()
    own.begin_task(random_task(0))
    assert penalty(own, model).item() == 0
    assert own.penalty_gradient(model) == []
    plain = gradients(strategy(PLANS["naive"]), model, batch)
    assert all(torch.equal(*pair) for pair in zip(gradients(own, model, batch), plain, strict=True))


def test_the_pull_is_added_to_the_gradient_of_the_loss() -> None:
    model, batch = network(), batch_of(random_task(1))
    own = ewc(penalty_clip=0.0)
    own.end_task(network(seed=1), random_task(0))
    loss = cross_entropy(model, batch) + penalty(own, model)
    wanted = list(torch.autograd.grad(loss, list(model.parameters())))
    torch.testing.assert_close(gradients(own, model, batch), wanted)


def test_weights_that_are_not_trained_are_left_out() -> None:
    model, batch = network(), batch_of(random_task(1))
    frozen = next(model.parameters()).requires_grad_(False)
    for plan in (PLANS["ewc"], PLANS["ewc-exact"]):
        own = ewc(plan)
        own.end_task(model, random_task(0))
        own.backward(model, batch)
        assert frozen.grad is None
        assert len(own.importance) == len(own.anchor) == len(list(model.parameters())) - 1


def fisher_by_definition(model: TaskModel, task: TaskTensors, outputs: list[int]) -> list[Tensor]:
    """One gradient for each example and each class, in plain Python."""
    model.eval()
    parameters = list(model.parameters())
    total = [torch.zeros_like(parameter) for parameter in parameters]
    for image in task.images:
        for output in outputs:
            probabilities = model(image[None], task.task)[0, outputs].softmax(dim=0)
            probability = probabilities[outputs.index(output)]
            score = torch.autograd.grad(probability.log(), parameters)
            for entry, gradient in zip(total, score, strict=True):
                entry += probability.detach() * gradient**2 / len(task)
    return total


@pytest.mark.parametrize(("examples", "budget"), [(3, 2**25), (11, 500), (4, 1)])
@pytest.mark.parametrize("task", [0, 2])
def test_exact_fisher_is_the_diagonal_of_the_exact_one(
    examples: int, budget: int, task: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of examples that the budget takes at a time."""
    monkeypatch.setattr(fisher_module, "BUDGET", budget)
    model = network(normalised=True)
    data = random_task(task, examples)
    wanted = fisher_by_definition(copy.deepcopy(model), data, OWN[task])
    own = ewc(PLANS["ewc-exact"])
    own.end_task(model, data)
    torch.testing.assert_close(own.importance, wanted, rtol=1e-4, atol=1e-8)
    assert any((fisher > 0).any() for fisher in own.importance)


def test_exact_fisher_of_a_logistic_model_is_the_known_one() -> None:
    """Two outputs of a linear layer: F of the weight w_kj is the mean of p (1 - p) x_j^2."""
    torch.manual_seed(0)
    model = TaskModel(nn.Linear(3, 2), [[0, 1]], "task")
    images = torch.rand(9, 3)
    p = model(images, 0).softmax(dim=1)[:, :1].detach()
    weight, bias = exact_fisher(model, TaskTensors(0, images, torch.zeros(9, dtype=torch.int64)), [0, 1])
    torch.testing.assert_close(weight, (p * (1 - p) * images**2).mean(dim=0).expand(2, 3))
    torch.testing.assert_close(bias, (p * (1 - p)).mean(dim=0).expand(2))


@pytest.mark.parametrize("examples", [5, 12])
def test_batch_fisher_is_the_squared_gradient_of_the_mean_loss_of_one_batch(examples: int) -> None:
    """Of different examples: where the task has no more than the batch takes, of all of them."""
    model, task = network(normalised=True), random_task(1)
    own = ewc(fisher_batch=examples)
    draw = torch.from_numpy(copy.deepcopy(own.stream.generator).choice(12, examples, replace=False))
    own.end_task(model, task)
    assert len(set(draw.tolist())) == examples
    evaluated = copy.deepcopy(model).eval()
    loss = nn.functional.cross_entropy(evaluated(task.images[draw], 1), task.labels[draw])
    wanted = [gradient**2 for gradient in torch.autograd.grad(loss, list(evaluated.parameters()))]
    torch.testing.assert_close(own.importance, wanted)


def test_a_batch_larger_than_the_task_is_the_whole_task() -> None:
    model, task = network(), random_task(1)
    own = ewc(fisher_batch=200)
    own.end_task(model, task)
    wanted = torch.autograd.grad(cross_entropy(model, batch_of(task, count=12)), list(model.parameters()))
    torch.testing.assert_close(own.importance, [gradient**2 for gradient in wanted])


@pytest.mark.parametrize("plan", ["ewc", "ewc-exact"])
def test_fisher_is_the_mean_over_the_tasks_and_the_anchor_the_last_weights(plan: str) -> None:
    models, tasks = [network(seed=seed) for seed in range(3)], [random_task(number) for number in range(3)]
    changes = {"fisher_batch": 200} if plan == "ewc" else {}
    own = ewc(PLANS[plan], **changes)
    single = []
    for model, task in zip(models, tasks, strict=True):
        own.end_task(model, task)
        alone = ewc(PLANS[plan], **changes)
        alone.end_task(model, task)
        single.append(alone.importance)
    wanted = [torch.stack(list(parts)).mean(dim=0) for parts in zip(*single, strict=True)]
    torch.testing.assert_close(own.importance, wanted)
    assert all(torch.equal(*pair) for pair in zip(own.anchor, models[-1].parameters(), strict=True))
    with torch.no_grad():
        next(models[-1].parameters()).add_(1)
    assert penalty(own, models[-1]).item() > 0  # the anchor is a copy


@pytest.mark.parametrize("plan", ["ewc", "ewc-exact"])
@pytest.mark.parametrize("training", [False, True])
def test_taking_fisher_leaves_the_network_as_it_was(plan: str, training: bool) -> None:
    model = network(normalised=True).train(training)
    before = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    ewc(PLANS[plan]).end_task(model, random_task(0))
    assert all(module.training == training for module in model.modules())
    after = model.state_dict()
    assert any("running_mean" in name for name in after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def as_the_published_code(model: TaskModel, images: Tensor, labels: Tensor, outputs: list[int]) -> list[Tensor]:
    """The squared gradient with all but `outputs` overwritten where automatic differentiation does not look."""
    model = copy.deepcopy(model).eval()
    logits = model.network(images.float() / 255)
    hidden = [output for output in range(logits.shape[1]) if output not in outputs]
    logits.data[:, hidden] = -1e11
    loss = nn.functional.cross_entropy(logits, labels)
    return [gradient**2 for gradient in torch.autograd.grad(loss, list(model.parameters()))]


def test_the_published_fisher_information_is_that_of_the_next_tasks_outputs_and_forgets() -> None:
    own, model = ewc(PLANS["ewc-published"], fisher_batch=12), network(normalised=True)
    tasks = [random_task(number) for number in range(3)]
    first, second = (as_the_published_code(model, task.images, task.labels, OWN[task.task + 1]) for task in tasks[:2])
    own.end_task(model, tasks[0])
    torch.testing.assert_close(own.importance, [f / 2 for f in first])
    own.end_task(model, tasks[1])
    torch.testing.assert_close(own.importance, [(f / 2 + 2 * s) / 3 for f, s in zip(first, second, strict=True)])
    kept = [tensor.clone() for tensor in own.importance]
    own.end_task(model, tasks[2])  # the last: nothing follows
    assert all(torch.equal(*pair) for pair in zip(own.importance, kept, strict=True))
    plain = ewc(fisher_batch=12)
    plain.end_task(model, tasks[0])
    assert any(not torch.allclose(f / 2, p) for f, p in zip(first, plain.importance, strict=True))


def test_exact_fisher_of_shared_outputs_is_over_the_classes_of_all_tasks() -> None:
    chances = torch.tensor([0.6, 0.399, 0.001])
    network = nn.Linear(2, 3)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.copy_(chances.log())
    classes = [[0, 1], [2]]
    own = strategy(PLANS["ewc-exact"], classes)
    assert isinstance(own, EWC)
    own.end_task(TaskModel(network, classes, "shared"), TaskTensors(0, torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])))
    assert torch.allclose(own.importance[1], chances * (1 - chances), rtol=1e-4)
