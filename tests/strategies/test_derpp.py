"""DER++: what it replays, and what the replay costs."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.models import TaskModel
from pipeline.strategies import Batch
from pipeline.strategies.derpp import DERpp, squared_distance
from pipeline.strategies.memory import LogitReservoir
from tests.strategies import OWN, PLANS, SHARED, batch_of, gradients, network, random_task, strategy

MASK = -1e11
both = pytest.mark.parametrize("classes", [OWN, SHARED], ids=["own", "shared"])


def derpp(tasks: int, model: TaskModel, classes: list[list[int]] = OWN, plan: str = "derpp") -> DERpp:
    """DER++ in task `tasks` (from 0), after one batch of it and all of the earlier ones; the model stays as it is."""
    own = strategy(PLANS[plan], classes)
    assert isinstance(own, DERpp)
    for number in range(tasks + 1):
        task = random_task(number, classes=classes)
        own.begin_task(task)
        for first in range(0, 4 if number == tasks else len(task), 4):
            gradients(own, model, batch_of(task, first))
        if number < tasks:
            own.end_task(model, task)
    return own


def test_the_reservoir_has_its_slots_for_every_class_of_the_stream() -> None:
    assert derpp(2, network()).memory.size == 2 * 6


def test_the_distance_by_hand() -> None:
    """(1 - 3)^2, (2 - 2)^2 and (0 - 5)^2, over three outputs that are not masked."""
    now = torch.tensor([[1.0, 2.0, MASK], [MASK, 0.0, MASK]], requires_grad=True)
    distance = squared_distance(now, torch.tensor([[3.0, 2.0, MASK], [MASK, 5.0, MASK]]))
    assert distance.item() == pytest.approx(29 / 3)
    (gradient,) = torch.autograd.grad(distance, [now])
    torch.testing.assert_close(gradient, torch.tensor([[-4.0, 0.0, 0.0], [0.0, -10.0, 0.0]]) / 3)


@both
@pytest.mark.parametrize(
    ("plan", "count", "alpha", "beta"), [("derpp", 4, 0.5, 0.5), ("derpp-memory-batch", 3, 0.3, 0.9)]
)
def test_the_gradient_is_that_of_the_three_losses(
    classes: list[list[int]], plan: str, count: int, alpha: float, beta: float
) -> None:
    learnt, model = network(classes), network(classes, seed=1)  # other weights than when the examples were learnt
    own = derpp(1, learnt, classes, plan)
    other = copy.deepcopy(own)
    first, then = other.memory.sample_with_logits(count)
    second = other.memory.sample(count)
    batch = batch_of(random_task(1, classes=classes), first=4)

    def plainly(net: TaskModel, examples: Batch, number: int) -> Tensor:
        """Logits of one example, of its own task alone, not masked."""
        task = examples.task[number] if isinstance(examples.task, Tensor) else examples.task
        logits: Tensor = net.network(net.scaled(examples.images[number : number + 1]))
        return logits[0, classes[int(task)]]

    squares, losses = [], []
    for number in range(count):
        squares.append((plainly(model, first, number) - plainly(learnt, first, number).detach()) ** 2)
        assert isinstance(second.task, Tensor)
        label = classes[int(second.task[number])].index(int(second.labels[number]))
        losses.append(F.cross_entropy(plainly(model, second, number)[None], torch.tensor([label])))
    loss = F.cross_entropy(model(batch.images, 1), batch.labels)
    loss = loss + alpha * torch.cat(squares).mean() + beta * torch.stack(losses).mean()
    wanted = torch.autograd.grad(loss, list(model.parameters()))
    assert float(torch.cat(squares).detach().mean()) > 1e-3
    assert len(then) == count
    torch.testing.assert_close(gradients(own, model, batch), list(wanted))


@both
def test_the_logits_are_those_at_which_each_example_was_learnt(classes: list[list[int]]) -> None:
    model = network(classes)
    sample, then = derpp(2, model, classes).memory.sample_with_logits(100)
    torch.testing.assert_close(then, model(sample.images, sample.task).detach())
    assert not then.requires_grad
    assert (then == MASK).any() == (classes == OWN)


def test_logits_and_examples_stay_together() -> None:
    memory, number = LogitReservoir(5, np.random.default_rng(0)), 0
    for count in (3, 4, 9, 1, 30):
        labels = torch.arange(number, number + count)
        images = labels[:, None].to(torch.float32)
        memory.add_with_logits(Batch(images, labels, 0), torch.stack([images[:, 0], -images[:, 0]], dim=1))
        number += count
        sample, logits = memory.sample_with_logits(9)
        assert logits[:, 0].tolist() == sample.labels.tolist() == (-logits[:, 1]).tolist()
        assert len(sample.labels) == min(number, 5)


def test_there_are_no_logits_to_sample_from_an_empty_memory() -> None:
    with pytest.raises(RuntimeError, match="the memory holds no example to sample"):
        LogitReservoir(3, np.random.default_rng(0)).sample_with_logits(1)


def test_the_first_step_is_naive_and_the_second_replays() -> None:
    model, task = network(), random_task(0)
    own, naive = strategy(PLANS["derpp"]), strategy(PLANS["naive"])
    own.begin_task(task)
    for first, same in ((0, True), (4, False)):
        pairs = zip(
            gradients(own, model, batch_of(task, first)), gradients(naive, model, batch_of(task, first)), strict=True
        )
        assert all(torch.equal(*pair) for pair in pairs) == same


def test_the_reported_loss_is_that_of_the_batch_alone() -> None:
    model, batch = network(), batch_of(random_task(1))
    loss = derpp(1, model).backward(copy.deepcopy(model), batch)
    assert torch.equal(loss, F.cross_entropy(model(batch.images, 1), batch.labels).detach())
    assert not loss.requires_grad
