"""Every strategy stops and goes on; every row of methods.yaml trains."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config import read_configuration
from pipeline.config.plan import resolve_run
from pipeline.models import TaskModel
from pipeline.strategies import STRATEGIES, Strategy
from pipeline.streams.reader import Tasks
from pipeline.training.loop import train
from pipeline.training.recorder import CURVE
from tests.conftest import ROOT
from tests.optimizers.test_tag import Operations
from tests.strategies import PLANS, batch_of, network, random_task, strategy

CPU = torch.device("cpu")
CONFIGURATION = read_configuration(ROOT)
CONFIGURATION = replace(CONFIGURATION, params=CONFIGURATION.params.model_copy(update={"benchmark": "rotated-digits"}))

#: Every row of the TAG paper's tables and of Stable SGD's experiments 1, 2 and C5.
ROWS = [
    "naive",
    "stable",
    "plastic",
    "rmsprop",
    "adagrad",
    "adam",
    "tag",
    "tag-adagrad",
    "tag-adam",
    "ewc",
    "agem",
    "er",
    "rmsprop-ewc",
    "rmsprop-agem",
    "rmsprop-er",
    "tag-ewc",
    "tag-agem",
    "tag-er",
    "agem-5",
    "agem-10",
    "er-5",
    "er-10",
    "stable-ewc",
    "stable-agem",
    "stable-er",
    "multitask",
    "multitask-passes",
    "multitask-visits",
]

#: A stream as it happens: what is called, on which task, from which example on.
COURSE = [
    (call, task, first)
    for task in range(3)
    for call, first in (("begin", 0), ("step", 0), ("step", 4), ("step", 8), ("end", 0))
]

#: One in which a task comes again.
AGAIN = [
    (call, task, first)
    for task in (1, 0, 1)
    for call, first in (("begin", 0), ("step", 0), ("step", 4), ("step", 8), ("end", 0))
]


def go_on(
    own: Strategy, model: TaskModel, optimizer: torch.optim.Optimizer, course: list[tuple[str, int, int]]
) -> None:
    """A part of the course."""
    for call, number, first in course:
        task = random_task(number)
        if call == "begin":
            own.begin_task(task)
        elif call == "end":
            own.end_task(model, task)
        else:
            optimizer.zero_grad()
            own.backward(model, batch_of(task, first))
            optimizer.step()
            own.after_step(model)


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit, tensors within dictionaries and lists too."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("course", [COURSE, AGAIN], ids=["in order", "again"])
def test_a_strategy_continues_from_its_state_bit_for_bit_wherever_it_stops(
    name: str, course: list[tuple[str, int, int]]
) -> None:
    for stop in range(1 if course is COURSE else 10, len(course)):
        own, model = strategy(PLANS[name]), network()
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.8)
        go_on(own, model, optimizer, course[:stop])
        file = io.BytesIO()
        torch.save(own.state_dict(), file)
        file.seek(0)
        other, resumed = strategy(PLANS[name], seed=99), copy.deepcopy(model)
        other.load_state_dict(torch.load(file))
        rest = torch.optim.SGD(resumed.parameters(), 0.1, momentum=0.8)
        rest.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        go_on(own, model, optimizer, course[stop:])
        go_on(other, resumed, rest, course[stop:])
        assert same(dict(model.state_dict()), dict(resumed.state_dict())), f"after {stop} events"
        assert same(own.state_dict(), other.state_dict()), f"after {stop} events"


@pytest.mark.parametrize(("name", "new"), [("er", "begun"), ("agem", "begun"), ("lwf", "learnt")])
@pytest.mark.parametrize("stop", [3, 8, 13])
def test_a_state_without_the_numbers_of_tasks_is_of_tasks_in_order(name: str, new: str, stop: int) -> None:
    """As earlier versions saved it."""
    own, model = strategy(PLANS[name]), network()
    go_on(own, model, torch.optim.SGD(model.parameters(), 0.1), COURSE[:stop])
    state = own.state_dict()
    other = strategy(PLANS[name])
    other.load_state_dict({key: value for key, value in state.items() if key != new})
    assert same(other.state_dict(), state)


@pytest.mark.parametrize("name", PLANS)
def test_a_loaded_state_is_a_copy(name: str) -> None:
    own, model = strategy(PLANS[name]), network()
    go_on(own, model, torch.optim.SGD(model.parameters(), 0.1), COURSE[:8])
    state = own.state_dict()
    other = strategy(PLANS[name])
    other.load_state_dict(state)
    before = copy.deepcopy(state)
    resumed = copy.deepcopy(model)
    go_on(other, resumed, torch.optim.SGD(resumed.parameters(), 0.1), COURSE[8:])
    assert same(state, before)


def test_no_strategy_goes_untested() -> None:
    assert {type(plan) for plan in PLANS.values()} == set(STRATEGIES)


@pytest.mark.parametrize("name", ["ewc", "online-ewc", "si", "mas", "agem", "er", "er-ring", "derpp", "lwf"])
def test_a_step_is_as_many_operations_in_the_last_task_as_in_the_second(name: str) -> None:
    classes = [[2 * task, 2 * task + 1] for task in range(10)]
    own, model = strategy(PLANS[name], classes), network(classes)
    counts = []
    for number in range(10):
        task = random_task(number, classes=classes)
        own.begin_task(task)
        own.backward(model, batch_of(task))
        own.after_step(model)
        with Operations() as operations:
            own.backward(model, batch_of(task, first=4))
            own.after_step(model)
        model.zero_grad()
        counts.append(operations.counts)
        own.end_task(model, task)
    first = 2 if name == "lwf" else 1  # the gradient of several groups of outputs takes a sum that that of one does not
    assert counts[first] == counts[-1]


@pytest.mark.parametrize("name", [name for name in PLANS if name != "gem"])
def test_no_step_reads_a_number_back_to_the_host(name: str) -> None:
    """On a GPU each of these operations would wait for all that was asked for before."""
    own, model = strategy(PLANS[name]), network(normalised=True)
    go_on(own, model, torch.optim.SGD(model.parameters(), 0.1), COURSE[:6])
    model.zero_grad()
    with Operations() as operations:
        own.backward(model, batch_of(random_task(1)))
        own.after_step(model)
    waiting = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "unique")
    assert not [name for name in operations.counts if any(word in name.split(".")[1] for word in waiting)]
    assert operations.counts


@pytest.mark.parametrize("name", ["gem", "agem", "er", "er-ring", "derpp"])
def test_a_batch_of_a_task_that_was_not_begun_is_refused(name: str) -> None:
    own, model = strategy(PLANS[name]), network()
    go_on(own, model, torch.optim.SGD(model.parameters(), 0.1), COURSE[:5])
    before, weights = copy.deepcopy(own.state_dict()), copy.deepcopy(model.state_dict())
    model.zero_grad()
    with pytest.raises(
        ValueError, match=r"a batch of task 1 \(from 0\) while task 0 is the present one; call begin_task"
    ):
        own.backward(model, batch_of(random_task(1)))
    assert same(own.state_dict(), before)
    assert same(dict(model.state_dict()), dict(weights))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_every_published_row_is_there() -> None:
    assert set(ROWS) <= set(CONFIGURATION.methods)


@pytest.mark.parametrize("name", CONFIGURATION.methods)
def test_every_method_trains(two_tasks: Tasks, name: str) -> None:
    plan = resolve_run(CONFIGURATION, name)
    training = plan.training.model_copy(update={"batch_size": 48, "epochs": 1})
    record = train(plan.model_copy(update={"training": training}), two_tasks, 1, CPU)
    assert np.shape(record.accuracy) == np.shape(record.test_loss) == (3, 2)
    assert np.shape(record.train_loss) == (2, CURVE)
    for values in (record.accuracy, record.test_loss, record.train_loss):
        assert np.isfinite(values).all()
    assert np.min(record.accuracy) >= 0
    assert np.max(record.accuracy) <= 1
    assert [np.shape(alpha) for alpha in record.alpha] == (
        [(CURVE, 1), (CURVE, 2)] if plan.optimizer.name == "tag" else []
    )
    first, last = record.train_loss[0][0], record.train_loss[0][-1]
    assert last < first  # it learns
