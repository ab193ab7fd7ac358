"""Experience replay: what is added to the gradient, and when."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from pipeline.models import TaskModel
from pipeline.strategies import Batch
from pipeline.strategies.batch import cross_entropy
from pipeline.strategies.er import ER
from tests.strategies import OWN, PLANS, batch_of, gradients, network, random_task, strategy


def er(tasks: int, model: TaskModel) -> ER:
    """ER in task `tasks` (from 0), after one batch of it and all of the earlier ones."""
    own = strategy(PLANS["er"])
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


def test_on_the_first_task_er_is_naive() -> None:
    model, batch = network(), batch_of(random_task(0), first=4)
    plain = gradients(strategy(PLANS["naive"]), model, batch)
    assert all(torch.equal(*pair) for pair in zip(gradients(er(0, model), model, batch), plain, strict=True))


def test_the_reported_loss_is_that_of_the_batch_alone() -> None:
    model, batch = network(), batch_of(random_task(1))
    own = er(1, model)
    loss = own.backward(copy.deepcopy(model), batch)
    assert torch.equal(loss, cross_entropy(model, batch).detach())
    assert not loss.requires_grad


def test_the_reservoir_has_its_slots_for_every_class_of_the_stream_and_is_offered_every_example() -> None:
    memory = er(2, network()).memory
    assert memory.size == 2 * 6
    assert memory.seen == 12 + 12 + 4
