"""Evaluation every few steps: what it records, and that it changes nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.config import RunPlan
from pipeline.models import TaskTensors
from pipeline.streams.reader import Tasks
from pipeline.support.scratch import Scratch
from pipeline.training.continual import some
from pipeline.training.loop import train
from pipeline.training.recorder import Measurements
from tests.conftest import run_plan
from tests.support.test_scratch import KilledError, Mortal

CPU = torch.device("cpu")
NOISY = {"lr_decay": 0.5, "dropout": 0.3, "dropout_at_test": True}
#: Of 1,352 training images per task.
STEPS = 22


def plan(every: int | None, images: int | None = None, **changes: object) -> RunPlan:
    training = {"batch_size": 64, "epochs": 1, "evaluate_every": every, "evaluate_images": images}
    return run_plan(training=training, **changes)


def without(record: Measurements) -> Measurements:
    return replace(record, continual_steps=[], continual_accuracy=[])


@pytest.mark.parametrize("regime", [{"lr_decay": 1.0, "dropout": 0.0}, NOISY], ids=["plain", "dropout at test"])
@pytest.mark.parametrize("strategy", ["naive", "er"])
def test_it_changes_no_other_number(two_tasks: Tasks, regime: dict[str, object], strategy: str) -> None:
    parts: dict[str, Any] = {"regime": regime, "strategy": {"name": strategy}}
    off = train(plan(None, None, **parts), two_tasks, 1, CPU)
    on = train(plan(5, None, **parts), two_tasks, 1, CPU)
    assert not off.continual_steps
    assert not off.continual_accuracy
    assert without(on) == off


def test_the_tasks_so_far_are_evaluated_every_few_steps_and_at_the_end(two_tasks: Tasks) -> None:
    record = train(plan(5), two_tasks, 1, CPU)
    assert record.continual_steps == [[5, 10, 15, 20, STEPS]] * 2
    assert [[len(row) for row in evaluations] for evaluations in record.continual_accuracy] == [[1] * 5, [2] * 5]
    for task, evaluations in enumerate(record.continual_accuracy, start=1):
        assert evaluations[-1] == record.accuracy[task][:task]  # of the same images at the same moment
    assert train(plan(11), two_tasks, 1, CPU).continual_steps == [[11, STEPS]] * 2  # the end is evaluated once
    assert train(plan(100), two_tasks, 1, CPU).continual_steps == [[STEPS]] * 2


def test_more_frequent_evaluation_holds_the_less_frequent_one(two_tasks: Tasks) -> None:
    often, seldom = (train(plan(every), two_tasks, 1, CPU) for every in (1, 4))
    assert often.continual_steps == [[*range(1, STEPS + 1)]] * 2
    for task in range(2):
        by_step = dict(zip(often.continual_steps[task], often.continual_accuracy[task], strict=True))
        assert [by_step[step] for step in seldom.continual_steps[task]] == seldom.continual_accuracy[task]


def test_dropout_at_test_draws_anew_at_each_evaluation(two_tasks: Tasks) -> None:
    """With a rate too small to move an accuracy, only the masks differ."""
    still = plan(1, regime=NOISY, optimizer={"name": "sgd", "lr": 1e-9, "momentum": 0.0})
    (first, _) = train(still, two_tasks, 1, CPU).continual_accuracy
    assert len({tuple(row) for row in first}) > STEPS / 2


def test_fewer_images_are_an_even_choice(two_tasks: Tasks) -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    task = TaskTensors(1, torch.arange(12, dtype=torch.uint8)[:, None], labels)
    chosen = some(task, 6)
    assert chosen.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert chosen.images[:, 0].tolist() == [0, 2, 4, 6, 8, 10]
    assert some(task, 5).images[:, 0].tolist() == [0, 2, 4, 7, 9]
    assert chosen.task == 1
    for all_of_them in (None, 12, 50):
        assert some(task, all_of_them) is task
    record = train(plan(5, images=10), two_tasks, 1, CPU)
    seen = [value for evaluations in record.continual_accuracy for row in evaluations for value in row]
    assert all(value * 10 == pytest.approx(round(value * 10)) for value in seen)
    assert without(record) == train(plan(None), two_tasks, 1, CPU)


@pytest.mark.parametrize("dies", [1, 9, 21, 22, 30, 43])
def test_a_run_that_was_killed_has_the_same_evaluations(two_tasks: Tasks, tmp_path: Path, dies: int) -> None:
    evaluated = plan(4, regime=NOISY)
    wanted = train(evaluated, two_tasks, 1, CPU)
    with pytest.raises(KilledError), Mortal(tmp_path, every=3, dies=dies) as scratch:
        train(evaluated, two_tasks, 1, CPU, scratch=scratch)
    with Scratch(tmp_path, "k", "run") as scratch:
        assert train(evaluated, two_tasks, 1, CPU, scratch=scratch) == wanted


def test_a_plan_has_its_keys_only_where_it_is_on() -> None:
    off = {"batch_size": 64, "epochs": 1}
    assert plan(None).model_dump(exclude_none=True)["training"] == off
    assert plan(None, images=10).model_dump(exclude_none=True)["training"] == off  # images of no evaluation
    on = off | {"evaluate_every": 5, "evaluate_images": 10}
    assert plan(5, images=10).model_dump(exclude_none=True)["training"] == on
