"""The penalties of SI, MAS and online EWC, and the importance that each gives to a weight."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from pipeline.config.strategies import StrategySettings
from pipeline.models import TaskModel, TaskTensors
from pipeline.models.resnet import ReducedResNet18
from pipeline.optimizers import begin_task, build_optimizer
from pipeline.optimizers.build import UPDATE_RULES
from pipeline.strategies import Batch
from pipeline.strategies.batch import cross_entropy
from pipeline.strategies.mas import MAS, sensitivity
from pipeline.strategies.online_ewc import OnlineEWC
from pipeline.strategies.penalty import Penalised
from pipeline.strategies.si import SI
from tests.strategies import OWN, PLANS, SHARED, batch_of, gradients, network, random_task, strategy

NAMES = ("online-ewc", "si", "mas")


def penalised(name: str, **changes: object) -> Penalised:
    """The strategy of a plan before its first task."""
    plan: StrategySettings = PLANS[name].model_copy(update=changes)
    own = strategy(plan)
    assert isinstance(own, Penalised)
    return own


def step(own: Penalised, model: nn.Module, batch: Batch, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """One step; the gradient of the batch's loss alone, before it."""
    assert isinstance(model, TaskModel)
    plain = list(torch.autograd.grad(cross_entropy(model, batch), list(model.parameters())))
    optimizer.zero_grad()
    own.backward(model, batch)
    optimizer.step()
    own.after_step(model)
    return plain


def learn(own: Penalised, model: TaskModel, task: TaskTensors, optimizer: torch.optim.Optimizer) -> None:
    """A task of three steps."""
    own.begin_task(task)
    for first in (0, 4, 8):
        step(own, model, batch_of(task, first), optimizer)
    own.end_task(model, task)


@pytest.mark.parametrize("name", NAMES)
def test_the_penalty_by_hand(name: str) -> None:
    """Weights (1, -2) and 4 now, (0.5, 0) and 4.5 then; importance (2, 0.25) and 8."""
    model = TaskModel(nn.Linear(2, 1), [[0], [0]], "shared")
    with torch.no_grad():
        for parameter, values in zip(model.parameters(), ([[1.0, -2.0]], [4.0]), strict=True):
            parameter.copy_(torch.tensor(values))
    own = penalised(name)
    assert own.penalty_gradient(model) == []
    own.anchor = [torch.tensor([[0.5, 0.0]]), torch.tensor([4.5])]
    own.importance = [torch.tensor([[2.0, 0.25]]), torch.tensor([8.0])]
    found = [gradient / (2 * own.weight) for gradient in own.penalty_gradient(model)]
    assert own.weight == {"online-ewc": 3.0, "si": 0.5, "mas": 0.5}[name]
    torch.testing.assert_close(found, [torch.tensor([[1.0, -0.5]]), torch.tensor([-4.0])])


@pytest.mark.parametrize("classes", [OWN, SHARED], ids=["own", "shared"])
@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_of_the_penalty_is_added_from_the_second_task_on(name: str, classes: list[list[int]]) -> None:
    own, model = strategy(PLANS[name], classes), network(classes)
    assert isinstance(own, Penalised)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    first, second = (batch_of(random_task(number, classes=classes)) for number in (0, 1))
    plain = torch.autograd.grad(cross_entropy(model, first), list(model.parameters()))
    torch.testing.assert_close(gradients(copy.deepcopy(own), model, first), list(plain), rtol=0, atol=0)
    learn(own, model, random_task(0, classes=classes), optimizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand_like(parameter))
    terms = zip(own.importance, model.parameters(), own.anchor, strict=True)
    penalty = own.weight * torch.stack([(i * (p - a) ** 2).sum() for i, p, a in terms]).sum()
    wanted = torch.autograd.grad(cross_entropy(model, second) + penalty, list(model.parameters()))
    alone = torch.autograd.grad(cross_entropy(model, second), list(model.parameters()))
    found = gradients(own, model, second)
    torch.testing.assert_close(found, list(wanted))
    assert any(not torch.allclose(*pair) for pair in zip(found, alone, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_the_anchor_is_a_copy_of_the_weights_after_the_last_task(name: str) -> None:
    own, model = penalised(name), network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.8)
    for number in range(2):
        learn(own, model, random_task(number), optimizer)
        assert all(torch.equal(*pair) for pair in zip(own.anchor, model.parameters(), strict=True))
        pull = own.penalty_gradient(model)
        assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in pull)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    assert any((gradient != 0).any() for gradient in own.penalty_gradient(model))


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_without_a_gradient_is_no_trouble(name: str) -> None:
    own, model = penalised(name), network()
    model.register_parameter("unused", nn.Parameter(torch.ones(2)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for number in range(2):
        own.begin_task(random_task(number))
        for first in (0, 4):
            optimizer.zero_grad()
            own.backward(model, batch_of(random_task(number), first))
            optimizer.step()
            own.after_step(model)
        own.end_task(model, random_task(number))
    unused = dict(model.named_parameters())["unused"]
    assert torch.equal(unused, torch.ones(2))


# --- SI


class Quadratic(TaskModel):
    """A network of two weights whose loss is 1/2 (a x^2 + b y^2), by way of `cross_entropy` made to return it."""

    def __init__(self, start: tuple[float, float]) -> None:
        super().__init__(nn.Linear(1, 1), [[0]], "shared")
        self.network = nn.Module()
        self.network.register_parameter("point", nn.Parameter(torch.tensor(start, dtype=torch.float64)))

    @property
    def point(self) -> Tensor:
        return next(self.parameters())


CURVATURE = torch.tensor([3.0, 0.5], dtype=torch.float64)


def quadratic_loss(model: TaskModel, batch: object) -> Tensor:
    return (CURVATURE * next(model.parameters()) ** 2).sum() / 2


def gone(lr: float, steps: int, monkeypatch: pytest.MonkeyPatch, damping: float = 1e-3) -> tuple[SI, Quadratic]:
    """SI after some steps down the quadratic from (1, -2)."""
    monkeypatch.setattr("pipeline.strategies.penalty.cross_entropy", quadratic_loss)
    own, model = penalised("si", damping=damping), Quadratic((1.0, -2.0))
    assert isinstance(own, SI)
    optimizer = torch.optim.SGD(model.parameters(), lr)
    batch = batch_of(random_task(0))
    for _ in range(steps):
        optimizer.zero_grad()
        own.backward(model, batch)
        optimizer.step()
        own.after_step(model)
    return own, model


def test_sis_path_integral_is_the_decrease_of_the_loss_in_the_limit_of_small_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = torch.tensor([1.0, -2.0], dtype=torch.float64)
    errors = []
    for steps in (100, 200, 400):
        own, model = gone(1.0 / steps, steps, monkeypatch)
        fallen = CURVATURE * (start**2 - model.point.detach() ** 2) / 2  # weight by weight: the loss is a sum over them
        assert (fallen > 0.3).all()
        errors.append(float((own.path[0] - fallen).abs().max()))
    assert errors[0] < 0.05
    for coarse, fine in pairwise(errors):
        assert 0.45 < fine / coarse < 0.55  # of first order in the step


@pytest.mark.parametrize("damping", [1e-3, 0.1])
def test_sis_importance_by_hand(monkeypatch: pytest.MonkeyPatch, damping: float) -> None:
    """One step of 0.1 from (1, -2): gradient (3, -1), change (-0.3, 0.1), path (0.9, 0.1)."""
    own, model = gone(0.1, 1, monkeypatch, damping)
    torch.testing.assert_close(own.path, [torch.tensor([0.9, 0.1], dtype=torch.float64)])
    own.end_task(model, random_task(0))
    wanted = torch.tensor([0.9 / (0.09 + damping), 0.1 / (0.01 + damping)], dtype=torch.float64)
    torch.testing.assert_close(own.importance, [wanted])
    assert torch.equal(own.path[0], torch.zeros(2, dtype=torch.float64))
    own.path = [torch.tensor([-1.0, 0.2], dtype=torch.float64)]  # a loss that rose counts as nothing
    with torch.no_grad():
        model.point.add_(0.5)
    own.end_task(model, random_task(0))
    more = torch.tensor([0.0, 0.2 / (0.25 + damping)], dtype=torch.float64)
    torch.testing.assert_close(own.importance, [wanted + more])


@pytest.mark.parametrize("rule", UPDATE_RULES)
def test_sis_path_takes_the_step_of_any_update_rule_and_the_gradient_without_the_penalty(rule: str) -> None:
    own, model = penalised("si"), network()
    assert isinstance(own, SI)
    optimizer = build_optimizer(model.named_parameters(), rule, 0.05)
    for number in range(2):
        wanted = [torch.zeros_like(parameter) for parameter in model.parameters()]
        begin_task(optimizer)
        own.begin_task(random_task(number))
        for first in (0, 4, 8):
            before = [parameter.detach().clone() for parameter in model.parameters()]
            plain = step(own, model, batch_of(random_task(number), first), optimizer)
            for total, g, b, p in zip(wanted, plain, before, model.parameters(), strict=True):
                total -= g * (p.detach() - b)
        torch.testing.assert_close(own.path, wanted)
        own.end_task(model, random_task(number))


# --- online EWC


def test_online_ewcs_moving_average_is_the_formula() -> None:
    own, model = penalised("online-ewc", fisher_interval=2, fisher_decay=0.9), network()
    assert isinstance(own, OnlineEWC)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    average = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for number in range(2):
        task = random_task(number)
        own.begin_task(task)
        squares = []
        for first in (0, 4, 8, 2, 6):  # the fifth step fills no interval
            plain = step(own, model, batch_of(task, first), optimizer)
            squares.append([gradient**2 for gradient in plain])
            if len(squares) == 2:
                mean = [(one + other) / 2 for one, other in zip(*squares, strict=True)]
                average = [0.1 * a + 0.9 * m for a, m in zip(average, mean, strict=True)]
                squares = []
        own.end_task(model, task)
        torch.testing.assert_close(own.average, average)
        low = min(float(tensor.min()) for tensor in average)
        high = max(float(tensor.max()) for tensor in average)
        torch.testing.assert_close(own.importance, [(tensor - low) / (high - low) for tensor in average])
        flat = torch.cat([tensor.flatten() for tensor in own.importance])
        assert (float(flat.min()), float(flat.max())) == (0.0, 1.0)


def test_online_ewc_takes_a_task_shorter_than_an_interval_as_one() -> None:
    long, exact = penalised("online-ewc", fisher_interval=50), penalised("online-ewc", fisher_interval=3)
    for own in (long, exact):
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for number in range(2):
            learn(own, model, random_task(number), optimizer)
    torch.testing.assert_close(long.importance, exact.importance)
    assert any((tensor > 0).any() for tensor in long.importance)


# --- MAS


def by_autograd(model: TaskModel, images: Tensor, task: int, outputs: list[int]) -> list[Tensor]:
    """The mean over the examples of the absolute gradient of the squared norm of a task's logits, one by one."""
    model = copy.deepcopy(model).eval()
    sums = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for number in range(len(images)):
        logits = model.network(model.scaled(images[number : number + 1]))[0, outputs]
        model.zero_grad()
        torch.autograd.backward(logits @ logits)
        for total, parameter in zip(sums, model.parameters(), strict=True):
            if parameter.grad is not None:
                total += parameter.grad.abs()
    return [total / len(images) for total in sums]


@pytest.mark.parametrize("classes", [OWN, SHARED], ids=["own", "shared"])
@pytest.mark.parametrize("normalised", [False, True])
def test_mas_takes_the_gradient_of_every_example(classes: list[list[int]], normalised: bool) -> None:
    model = network(classes, normalised).train()
    task = random_task(1, classes=classes)
    found = sensitivity(model, task.images, 1, classes[1])
    torch.testing.assert_close(found, by_autograd(model, task.images, 1, classes[1]))
    assert any((tensor > 0).any() for tensor in found)
    together = torch.autograd.grad(
        model.eval()(task.images, 1)[:, classes[1]].square().sum() / len(task), list(model.parameters())
    )  # what a batch's gradient would be: smaller where the examples disagree
    assert any(not torch.allclose(f, t.abs()) for f, t in zip(found, together, strict=True))


def test_mas_on_the_reduced_resnet_is_that_of_a_loop_over_the_examples() -> None:
    torch.manual_seed(0)
    model = TaskModel(ReducedResNet18(4, dropout=0.2), [[0, 1], [2, 3]], "task")
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    model.train()(images, 0)  # running statistics that are not those of a new network
    found = sensitivity(model, images, 1, [2, 3])
    torch.testing.assert_close(found, by_autograd(model, images, 1, [2, 3]), rtol=1e-3, atol=1e-5)


def test_mas_by_hand() -> None:
    """z = w x with w = 2: |d z^2 / dw| = |2 w x^2|, 4 and 36 for x = 1 and -3."""
    model = TaskModel(nn.Linear(1, 1, bias=False), [[0]], "shared")
    with torch.no_grad():
        next(model.parameters()).fill_(2.0)
    found = sensitivity(model, torch.tensor([[1.0], [-3.0]]), 0, [0])
    torch.testing.assert_close(found, [torch.tensor([[20.0]])])


def test_mas_of_groups_by_hand() -> None:
    """z = w x with w = 2 and -1 for two inputs: d z^2 / dw = 2 z x, whose signs cancel within a group."""
    model = TaskModel(nn.Linear(2, 1, bias=False), [[0]], "shared")
    with torch.no_grad():
        next(model.parameters()).copy_(torch.tensor([[2.0, -1.0]]))
    images = torch.tensor([[1.0, 1.0], [1.0, 3.0], [0.0, 2.0]])  # z = 1, -1, -2
    # the gradients 2 z x: (2, 2), (-2, -6), (0, -8)
    torch.testing.assert_close(sensitivity(model, images, 0, [0]), [torch.tensor([[4.0, 16.0]]) / 3])
    torch.testing.assert_close(sensitivity(model, images, 0, [0], 2), [torch.tensor([[0.0, 12.0]]) / 3])
    torch.testing.assert_close(sensitivity(model, images, 0, [0], 3), [torch.tensor([[0.0, 12.0]]) / 3])


@pytest.mark.parametrize("published", [None, True])
def test_mas_adds_the_tasks_and_as_published_keeps_the_last(published: bool | None) -> None:
    own, model = penalised("mas", published=published), network()
    together = 10 if published else 1
    order = copy.deepcopy(own.stream.generator)
    single = []
    for number in range(2):
        images = random_task(number).images
        if published:  # a task holds its examples class by class; the ten that go together are of any
            images = images[torch.from_numpy(order.choice(len(images), len(images), replace=False))]
        single.append(sensitivity(model, images, number, OWN[number], together))
    for number in range(2):
        own.end_task(model, random_task(number))
    wanted = single[1] if published else [a + b for a, b in zip(*single, strict=True)]
    torch.testing.assert_close(own.importance, wanted)


def test_mas_may_take_some_of_the_examples() -> None:
    own, model = penalised("mas", mas_examples=5), network()
    chosen = copy.deepcopy(own.stream.generator).choice(12, 5, replace=False)
    own.end_task(model, random_task(0))
    images = random_task(0).images[torch.from_numpy(chosen)]
    torch.testing.assert_close(own.importance, sensitivity(model, images, 0, OWN[0]))


@pytest.mark.parametrize("training", [False, True])
def test_mas_leaves_the_network_as_it_was(training: bool) -> None:
    model = network(normalised=True).train(training)
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    own = penalised("mas")
    assert isinstance(own, MAS)
    own.end_task(model, random_task(0))
    assert all(module.training == training for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)
