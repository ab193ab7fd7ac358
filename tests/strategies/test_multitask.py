"""Multi-task learning: which examples come when."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.config.regimes import TrainingPlan
from pipeline.config.strategies import MultitaskPassesSettings
from pipeline.models import TaskModel, load_task, outputs_of_tasks
from pipeline.strategies import Batch, Strategy
from pipeline.streams.reader import Tasks
from pipeline.training.feeding import Joint, Sequential
from pipeline.training.loop import train
from pipeline.training.recorder import Measurements
from tests.conftest import rotated_digits, run_plan
from tests.strategies import PLANS, strategy

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def one_task(tmp_path_factory: pytest.TempPathFactory) -> Tasks:
    """A stream of one task."""
    return rotated_digits(tmp_path_factory.mktemp("one-task"), 1)


def learn(tasks: Tasks, plan: object, regime: object) -> tuple[Measurements, dict[str, Tensor]]:
    """The record and the weights of a run of two epochs."""
    weights: dict[str, Tensor] = {}

    def note(task: int, model: TaskModel) -> None:
        weights.update({name: value.clone() for name, value in model.state_dict().items()})

    settings = {"batch_size": 16, "epochs": 2}
    return train(run_plan(strategy=plan, regime=regime, training=settings), tasks, 1, CPU, note), weights


@pytest.mark.parametrize(
    "regime",
    [{"lr_decay": 1.0, "dropout": 0.0}, {"lr_decay": 0.5, "min_lr": 5e-5, "dropout": 0.25}],
    ids=["plastic", "stable"],
)
@pytest.mark.parametrize(
    "plan", [{"name": "multitask"}, {"name": "multitask-passes", "passes": 1}], ids=["joint", "passes"]
)
def test_on_one_task_multitask_is_naive_bit_for_bit(one_task: Tasks, plan: object, regime: object) -> None:
    record, weights = learn(one_task, plan, regime)
    naive, wanted = learn(one_task, {"name": "naive"}, regime)
    assert record == naive
    assert weights.keys() == wanted.keys()
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)


def feed(kind: type[Sequential], own: Strategy, tasks: Tasks, training: TrainingPlan) -> Sequential:
    outputs = outputs_of_tasks(tasks.classes, "task")
    return kind(tasks, own, training, outputs, np.random.default_rng(0), CPU)


def rows(batches: list[Batch]) -> np.ndarray:
    """Task, label and pixels of every example, sorted: equal for equal collections of examples."""
    parts = [
        np.column_stack(
            [
                torch.as_tensor(batch.task).expand(len(batch.labels)).numpy(),
                batch.labels.numpy(),
                batch.images.flatten(1).numpy(),
            ]
        )
        for batch in batches
    ]
    whole = np.concatenate(parts)
    return whole[np.lexsort(whole.T)]


@pytest.mark.parametrize("epochs", [1, 2])
def test_joint_batches_have_every_example_of_every_task_once_an_epoch(two_tasks: Tasks, epochs: int) -> None:
    joint = feed(Joint, strategy(PLANS["multitask"]), two_tasks, TrainingPlan(batch_size=50, epochs=epochs))
    parts = [[batch for _, batches in joint.visits(part) for batch in batches] for part in range(2)]
    assert abs(len(parts[0]) - len(parts[1])) <= 1
    batches = [batch for part in parts for batch in part]
    outputs = outputs_of_tasks(two_tasks.classes, "task")
    loaded = [load_task(two_tasks, task, "train", outputs, CPU) for task in range(2)]
    a_pass = math.ceil(sum(map(len, loaded)) / 50)
    assert joint.steps() == len(batches) == epochs * a_pass
    everything = rows([Batch(task.images, task.labels, task.task) for task in loaded])
    for epoch in range(epochs):
        assert np.array_equal(rows(batches[epoch * a_pass : (epoch + 1) * a_pass]), everything)
    if epochs == 2:
        assert not torch.equal(batches[0].labels, batches[a_pass].labels)  # shuffled anew


def test_joint_batches_mix_the_tasks_from_the_start(two_tasks: Tasks) -> None:
    joint = feed(Joint, strategy(PLANS["multitask"]), two_tasks, TrainingPlan(batch_size=50, epochs=1))
    for _, batches in joint.visits(0):
        for batch in batches:
            assert isinstance(batch.task, Tensor)
            assert set(batch.task.tolist()) == {0, 1}
            assert torch.equal(batch.labels // 10, batch.task)  # ten outputs per task


@pytest.mark.parametrize(("passes", "tasks"), [(1, 3), (3, 2), (6, 5)])
def test_passes_go_over_the_tasks_in_sequence_and_the_last_one_gives_the_rows(passes: int, tasks: int) -> None:
    own = strategy(PLANS["multitask-passes"].model_copy(update={"passes": passes}))
    visits = [own.visits(task, tasks) for task in range(tasks)]
    assert [task for row in visits for task in row] == list(range(tasks)) * passes
    assert [row[-1] for row in visits] == list(range(tasks))
    assert all(len(row) == 1 for row in visits[1:])


def test_passes_count_their_steps(two_tasks: Tasks) -> None:
    sequence = feed(Sequential, strategy(PLANS["multitask-passes"]), two_tasks, TrainingPlan(batch_size=50, epochs=1))
    batches = [batch for part in range(2) for _, visit in sequence.visits(part) for batch in visit]
    assert sequence.steps() == len(batches)
    sizes = [len(two_tasks.split(task, "train")[1]) for task in range(2)]
    assert sum(len(batch.labels) for batch in batches) == 2 * sum(sizes)


def test_random_visits_are_as_many_as_asked_and_of_all_tasks_alike(two_tasks: Tasks) -> None:
    plan = MultitaskPassesSettings(name="multitask-passes", visits=600)
    own, again, other = (strategy(plan, seed=seed) for seed in (0, 0, 1))  # three tasks
    visits = [[one.visits(task, 3) for task in range(3)] for one in (own, again, other)]
    assert visits[0] == visits[1] != visits[2]
    assert [len(row) for row in visits[0]] == [200, 200, 200]
    counts = np.bincount([task for row in visits[0] for task in row])
    assert counts.sum() == 600
    assert (abs(counts - 200) < 50).all()  # four standard deviations
    sequence = feed(Sequential, strategy(plan, two_tasks.classes), two_tasks, TrainingPlan(batch_size=50, epochs=1))
    assert sequence.steps() == 600 * math.ceil(len(two_tasks.split(0, "train")[1]) / 50)
