"""Learning without forgetting: what is distilled, from whom, and to which outputs."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models import TaskModel
from pipeline.strategies.batch import cross_entropy
from pipeline.strategies.lwf import LwF, distillation
from tests.strategies import OWN, PLANS, SHARED, batch_of, gradients, network, random_task, strategy

#: Outputs that all tasks share, but of which each task has some: class-incremental learning.
SOME = [[0, 1], [2, 3], [4, 5]]


def lwf(**changes: object) -> LwF:
    own = strategy(PLANS["lwf"].model_copy(update=changes))
    assert isinstance(own, LwF)
    return own


def drift(model: TaskModel) -> TaskModel:
    """A copy with other weights."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return other


def test_the_distillation_by_hand() -> None:
    """At temperature 2 logits 2 log 3 and 0 are probabilities 3/4 and 1/4."""
    three = 2 * torch.log(torch.tensor(3.0))
    old, hidden = torch.stack([three, torch.tensor(0.0)])[None], torch.zeros((1, 2), dtype=torch.bool)
    new = torch.zeros((1, 2))
    assert distillation(new, old, hidden, 2.0).item() == pytest.approx(float(torch.log(torch.tensor(2.0))))
    entropy = -(0.75 * torch.log(torch.tensor(0.75)) + 0.25 * torch.log(torch.tensor(0.25)))
    assert distillation(old, old, hidden, 2.0).item() == pytest.approx(float(entropy))


def old_loss(
    model: TaskModel, teacher: TaskModel, images: Tensor, groups: list[list[int]], temperature: float
) -> Tensor:
    """Group by group and example by example, with PyTorch's cross-entropy of probabilities."""
    teacher = copy.deepcopy(teacher).eval()
    terms = []
    for group in groups:
        for number in range(len(images)):
            image = model.scaled(images[number : number + 1])
            wanted = (teacher.network(image)[:, group] / temperature).softmax(dim=1).detach()
            terms.append(F.cross_entropy(model.network(image)[:, group] / temperature, wanted) / len(images))
    return torch.stack(terms).sum()


@pytest.mark.parametrize(
    ("classes", "mode", "groups"),
    [(OWN, "task", [[0, 1], [2, 3]]), (SHARED, "shared", [[0, 1]]), (SOME, "shared", [[0, 1, 2, 3]])],
    ids=["own", "shared", "class-incremental"],
)
@pytest.mark.parametrize("temperature", [2.0, 3.0])
def test_the_old_outputs_of_each_earlier_task_are_distilled_on_the_new_images(
    classes: list[list[int]], mode: str, groups: list[list[int]], temperature: float
) -> None:
    own = strategy(PLANS["lwf"].model_copy(update={"lwf_lambda": 0.7, "temperature": temperature}), classes)
    assert isinstance(own, LwF)
    first = TaskModel(network(classes).network, classes, mode)  # type: ignore[arg-type]
    second, model = drift(first), drift(first)
    own.end_task(first, random_task(0, classes=classes))
    own.end_task(second, random_task(1, classes=classes))  # replaces the teacher
    batch = batch_of(random_task(2, classes=classes))
    loss = cross_entropy(model, batch) + 0.7 * old_loss(model, second, batch.images, groups, temperature)
    wanted = torch.autograd.grad(loss, list(model.parameters()))
    torch.testing.assert_close(gradients(own, model, batch), list(wanted))


@pytest.mark.parametrize("classes", [OWN, SHARED], ids=["own", "shared"])
def test_a_student_that_is_the_teacher_feels_no_distillation(classes: list[list[int]]) -> None:
    own, model = strategy(PLANS["lwf"], classes), network(classes)
    own.end_task(model, random_task(0, classes=classes))
    batch = batch_of(random_task(1, classes=classes))
    plain = gradients(strategy(PLANS["naive"], classes), model, batch)
    torch.testing.assert_close(gradients(own, model, batch), plain)
    moved = drift(model)
    plain = gradients(strategy(PLANS["naive"], classes), moved, batch)
    assert any(not torch.allclose(*pair) for pair in zip(gradients(own, moved, batch), plain, strict=True))


def test_on_the_first_task_lwf_is_naive() -> None:
    model, batch = network(normalised=True).eval(), batch_of(random_task(0))
    plain = gradients(strategy(PLANS["naive"]), model, batch)
    assert all(torch.equal(*pair) for pair in zip(gradients(lwf(), model, batch), plain, strict=True))


def test_the_teacher_is_in_eval_mode_and_the_student_stays_in_train_mode() -> None:
    model, batch = network(normalised=True).train(), batch_of(random_task(1))
    next(module for module in model.modules() if isinstance(module, nn.Dropout)).p = 0.0  # it would draw another mask
    for first in (0, 4, 8):
        model(random_task(0).images[first : first + 4], 0)
    teacher, own = copy.deepcopy(model), lwf()
    own.end_task(model, random_task(0))
    student = drift(model)
    asked, found = copy.deepcopy(student), copy.deepcopy(student)
    wanted_old = copy.deepcopy(teacher).eval().network(teacher.scaled(batch.images))[:, OWN[0]]
    logits = asked.network(asked.scaled(batch.images))
    loss = F.cross_entropy(asked.masked(logits, 1), batch.labels) + F.cross_entropy(
        logits[:, OWN[0]] / 2, (wanted_old / 2).softmax(dim=1).detach()
    )
    wanted = torch.autograd.grad(loss, list(asked.parameters()))
    own.backward(found, batch)
    gradients = [parameter.grad for parameter in found.parameters()]
    torch.testing.assert_close(gradients, list(wanted))
    torch.testing.assert_close(list(found.buffers()), list(asked.buffers()))  # one pass in train mode, no more
    assert all(module.training for module in found.modules())
    assert all(torch.equal(own.teacher[name], value) for name, value in teacher.network.state_dict().items())


def test_the_teacher_is_a_copy() -> None:
    own, model = lwf(), network()
    own.end_task(model, random_task(0))
    before = copy.deepcopy(own.teacher)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert all(torch.equal(own.teacher[name], value) for name, value in before.items())


def test_the_reported_loss_is_that_of_the_batch_alone() -> None:
    own, model, batch = lwf(), network(), batch_of(random_task(1))
    own.end_task(drift(model), random_task(0))
    loss = own.backward(model, batch)
    assert torch.equal(loss, cross_entropy(model, batch).detach())
    assert not loss.requires_grad


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 6)
        self.two.weight = self.one.weight

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.head(torch.tanh(self.two(torch.tanh(self.one(images.flatten(1))))))
        return output


def test_the_teacher_of_a_network_with_tied_weights_gives_its_outputs() -> None:
    torch.manual_seed(0)
    own, model = lwf(lwf_lambda=0.7), TaskModel(Tied(), OWN, "task")
    teacher, student = copy.deepcopy(model), drift(model)
    own.end_task(model, random_task(0))
    batch = batch_of(random_task(1))
    loss = cross_entropy(student, batch) + 0.7 * old_loss(student, teacher, batch.images, [OWN[0]], 2.0)
    wanted = torch.autograd.grad(loss, list(student.parameters()))
    torch.testing.assert_close(gradients(own, student, batch), list(wanted))


@pytest.mark.parametrize("mode", ["task", "shared"])
def test_on_a_second_visit_the_outputs_of_all_other_tasks_learnt_are_distilled(mode: str) -> None:
    own, first = lwf(lwf_lambda=0.7), TaskModel(network(SOME).network, SOME, mode)  # type: ignore[arg-type]
    teacher, model = drift(first), drift(first)
    for visited, present, groups in (
        (2, 2, []),
        (0, 2, [SOME[0]]),
        (2, 1, [SOME[0], SOME[2]]),
        (1, 0, [SOME[1], SOME[2]]),
    ):
        own.end_task(teacher, random_task(visited))
        if mode == "shared" and groups:
            groups = [[output for group in groups for output in group]]
        batch = batch_of(random_task(present))
        loss = cross_entropy(model, batch)
        if groups:
            loss = loss + 0.7 * old_loss(model, teacher, batch.images, groups, 2.0)
        wanted = torch.autograd.grad(loss, list(model.parameters()))
        torch.testing.assert_close(gradients(own, model, batch), list(wanted))
