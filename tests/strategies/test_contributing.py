"""The example of CONTRIBUTING.md, run as it stands there."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import strategies
from pipeline.config.plan import StrategyPlan
from pipeline.models import TaskModel
from pipeline.strategies import Batch, Naive, Stream
from pipeline.streams.reader import Tasks
from pipeline.training.loop import train
from tests.conftest import ROOT, run_plan


@pytest.fixture
def smoothed() -> type[Naive]:
    (code,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(code, names)
    made: type[Naive] = names["Smoothed"]
    return made


def test_the_example_trains(smoothed: type[Naive], two_tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = train(run_plan(), two_tasks, 1, torch.device("cpu"))
    monkeypatch.setitem(strategies.STRATEGIES, "naive", smoothed)
    record = train(run_plan(), two_tasks, 1, torch.device("cpu"))
    assert record.accuracy[0] == plain.accuracy[0]
    assert record.accuracy[1] != plain.accuracy[1]
    assert record.accuracy[1][0] > record.accuracy[0][0] + 0.2


def test_the_examples_loss_is_label_smoothing_over_the_tasks_own_outputs(smoothed: type[Naive]) -> None:
    torch.manual_seed(0)
    model = TaskModel(torch.nn.Linear(3, 5), [[0, 1], [2, 3, 4]], "task")
    images, labels = torch.rand(6, 3), torch.tensor([2, 3, 4, 4, 3, 2])
    strategy = smoothed(StrategyPlan(name="naive"), Stream([[0, 1], [2, 3, 4]], 6, np.random.default_rng(0)))
    loss = strategy.backward(model, Batch(images, labels, 1))
    wanted = torch.nn.functional.cross_entropy(model.network(images)[:, 2:], labels - 2, label_smoothing=0.1)
    assert torch.allclose(loss, wanted)
