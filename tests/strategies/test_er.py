"""Experience replay: what is added to the gradient, and when."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.models import TaskModel
from pipeline.strategies import Batch
from pipeline.strategies.batch import cross_entropy, joined
from pipeline.strategies.er import ER
from pipeline.strategies.memory import Reservoir, Ring
from tests.strategies import OWN, PLANS, batch_of, gradients, network, random_task, strategy


def er(tasks: int, model: TaskModel, plan: str = "er") -> ER:
    """ER in task `tasks` (from 0), after one batch of it and all of the earlier ones."""
    own = strategy(PLANS[plan])
    assert isinstance(own, ER)
    for number in range(tasks + 1):
        task = random_task(number)
        own.begin_task(task)
        for first in range(0, 4 if number == tasks else len(task), 4):
            gradients(own, model, batch_of(task, first))
        if number < tasks:
            own.end_task(model, task)
    return own


def head_gradient(model: TaskModel, batch: Batch) -> Tensor:
    """Of the loss, for the weights of the last layer: a row for each output."""
    weight = list(model.parameters())[-2]
    (gradient,) = torch.autograd.grad(cross_entropy(model, batch), [weight])
    return gradient


def test_a_memory_batch_uses_only_the_outputs_of_its_own_task() -> None:
    model = network()
    memory = er(1, model).memory
    for _ in range(10):
        sample = memory.sample(1)
        gradient = head_gradient(model, sample)
        assert isinstance(sample.task, Tensor)
        own = OWN[int(sample.task)]
        others = [output for row in OWN for output in row if output not in own]
        assert (gradient[own] != 0).all()
        assert torch.equal(gradient[others], torch.zeros(len(others), 4))


def test_a_memory_batch_of_several_tasks_is_the_mean_over_its_examples() -> None:
    model = network()
    sample = er(2, model).memory.sample(9)
    assert isinstance(sample.task, Tensor)
    assert len(set(sample.task.tolist())) > 1
    single = [
        head_gradient(model, Batch(image[None], label[None], int(task)))
        for image, label, task in zip(sample.images, sample.labels, sample.task, strict=True)
    ]
    torch.testing.assert_close(head_gradient(model, sample), torch.stack(single).mean(dim=0))


def test_from_the_second_task_on_the_gradient_of_a_memory_batch_is_added() -> None:
    model = network()
    own = er(1, model)
    sample = copy.deepcopy(own).memory.sample(4)
    batch = batch_of(random_task(1), first=4)
    loss = cross_entropy(model, batch) + cross_entropy(model, sample)
    torch.testing.assert_close(gradients(own, model, batch), list(torch.autograd.grad(loss, list(model.parameters()))))


@pytest.mark.parametrize("plan", ["er", "er-ring"])
def test_on_the_first_task_er_is_naive(plan: str) -> None:
    model, batch = network(), batch_of(random_task(0), first=4)
    plain = gradients(strategy(PLANS["naive"]), model, batch)
    assert all(torch.equal(*pair) for pair in zip(gradients(er(0, model, plan), model, batch), plain, strict=True))


@pytest.mark.parametrize(("plan", "count"), [("er-ring", 4), ("er-one-pass", 3)])
def test_in_one_pass_the_loss_is_the_mean_over_the_examples_of_both_batches(plan: str, count: int) -> None:
    model = network()
    own = er(1, model, plan)
    sample = copy.deepcopy(own).memory.sample(count)
    assert len(sample.labels) == count
    batch = batch_of(random_task(1), first=4)
    logits = torch.cat([model(batch.images, batch.task), model(sample.images, sample.task)])
    losses = F.cross_entropy(logits, torch.cat([batch.labels, sample.labels]), reduction="none")
    wanted = torch.autograd.grad(losses.sum() / (4 + count), list(model.parameters()))
    torch.testing.assert_close(gradients(own, model, batch), list(wanted))


def test_in_one_pass_a_reservoir_is_replayed_within_the_first_task() -> None:
    model, own = network(), strategy(PLANS["er-one-pass"])
    assert isinstance(own, ER)
    own.begin_task(random_task(0))
    first, second = batch_of(random_task(0)), batch_of(random_task(0), first=4)
    plain = gradients(strategy(PLANS["naive"]), model, first)
    torch.testing.assert_close(gradients(own, model, first), plain)  # nothing is in memory before the first step
    both = joined(second, copy.deepcopy(own).memory.sample(3))
    assert len(both.labels) == 7
    loss = F.cross_entropy(model(both.images, both.task), both.labels)
    wanted = torch.autograd.grad(loss, list(model.parameters()))
    torch.testing.assert_close(gradients(own, model, second), list(wanted))


def test_in_one_pass_batch_normalisation_sees_both_batches_as_one() -> None:
    own = er(1, network(), "er-ring")
    batch = batch_of(random_task(1), first=4)
    asked, found = network(normalised=True).train(), network(normalised=True).train()
    both = joined(batch, copy.deepcopy(own).memory.sample(4))
    asked(both.images, both.task)
    own.backward(found, batch)
    torch.testing.assert_close(list(found.buffers()), list(asked.buffers()))


def test_a_ring_replays_only_earlier_tasks() -> None:
    own, model = er(2, network(), "er-ring"), network()
    assert isinstance(own.memory, Ring)
    drawn = [own.recall().task for _ in range(5)]
    assert set(torch.cat([task for task in drawn if isinstance(task, Tensor)]).tolist()) == {0, 1}
    assert torch.isfinite(own.backward(model, batch_of(random_task(2))))


def test_the_memory_batch_is_as_large_as_its_setting_says() -> None:
    assert len(er(2, network(), "er-one-pass").recall().labels) == 3
    assert len(er(2, network()).recall().labels) == 4  # the batch's


def test_the_reported_loss_is_that_of_the_batch_alone() -> None:
    model, batch = network(), batch_of(random_task(1))
    own = er(1, model)
    loss = own.backward(copy.deepcopy(model), batch)
    assert torch.equal(loss, cross_entropy(model, batch).detach())
    assert not loss.requires_grad
    together = er(1, model, "er-ring").backward(copy.deepcopy(model), batch)
    torch.testing.assert_close(together, loss)
    assert not together.requires_grad


def test_the_reservoir_has_its_slots_for_every_class_of_the_stream_and_is_offered_every_example() -> None:
    memory = er(2, network()).memory
    assert isinstance(memory, Reservoir)
    assert memory.size == 2 * 6
    assert memory.seen == 12 + 12 + 4


@pytest.mark.parametrize("plan", ["er", "er-ring"])
@pytest.mark.parametrize("order", [(0, 1, 0), (2, 1)])
def test_in_any_order_and_on_a_second_visit_the_other_tasks_are_replayed(plan: str, order: tuple[int, ...]) -> None:
    own, model = strategy(PLANS[plan].model_copy(update={"one_pass": False})), network()
    assert isinstance(own, ER)
    for visit, number in enumerate(order):
        own.begin_task(random_task(number))
        batch = batch_of(random_task(number))
        sample = copy.deepcopy(own).memory.sample(4) if visit else None
        loss = cross_entropy(model, batch) + (0 if sample is None else cross_entropy(model, sample))
        wanted = torch.autograd.grad(loss, list(model.parameters()))
        torch.testing.assert_close(gradients(own, model, batch), list(wanted))
        if plan == "er-ring" and sample is not None:
            assert isinstance(sample.task, Tensor)
            assert set(sample.task.tolist()) == set(order) - {number}
