"""The example of CONTRIBUTING.md, run as it stands there."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from pydantic import Field, ValidationError

from pipeline import strategies
from pipeline.config import strategies as config_strategies
from pipeline.config.strategies import StrategySettings
from pipeline.config.types import settings_of
from pipeline.models import TaskModel
from pipeline.strategies import STRATEGIES, Batch, Stream, build_strategy
from pipeline.streams.reader import Tasks
from pipeline.support.errors import UserError
from pipeline.training.loop import train
from tests.conftest import ROOT, run_plan


@pytest.fixture
def smoothed() -> Iterator[Any]:
    """The settings and the strategy of the example, registered as it says, and forgotten again."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    settings, strategy, line = blocks
    names = {**vars(config_strategies), "Annotated": Annotated, "Field": Field}
    exec(compile(settings, "settings", "exec", dont_inherit=True), names)
    module = ModuleType("pipeline.strategies.smoothed")
    sys.modules[module.__name__] = module
    config_strategies.SmoothedSettings = names["SmoothedSettings"]  # type: ignore[attr-defined]
    exec(compile(strategy, "strategy", "exec", dont_inherit=True), vars(module))
    registry = strategies.STRATEGIES
    exec(f"STRATEGIES.update({{{line}}})", {"STRATEGIES": registry, **names, **vars(module)})
    yield names["SmoothedSettings"]
    del registry[names["SmoothedSettings"]], sys.modules[module.__name__]
    del config_strategies.SmoothedSettings  # type: ignore[attr-defined]
    StrategySettings.choices.remove(names["SmoothedSettings"])


def test_the_example_trains(smoothed: Any, two_tasks: Tasks) -> None:
    plain = train(run_plan(), two_tasks, 1, torch.device("cpu"))
    plan = run_plan()
    plan.strategy = smoothed(name="smoothed")
    assert plan.strategy.value_of("smoothing") == 0.1
    record = train(plan, two_tasks, 1, torch.device("cpu"))
    assert record.accuracy[0] == plain.accuracy[0]
    assert record.accuracy[1] != plain.accuracy[1]
    assert record.accuracy[1][0] > record.accuracy[0][0] + 0.2


def test_its_settings_are_known_wherever_values_are_set(smoothed: Any) -> None:
    known: Any = StrategySettings.by_name("smoothed")
    assert known is smoothed
    assert settings_of(*StrategySettings.choices)["smoothing"].description == "share of the even labels"
    with pytest.raises(ValidationError, match=r"less than or equal to 0\.9"):
        smoothed.model_validate({"name": "smoothed", "smoothing": 1.5})


def test_the_examples_loss_is_label_smoothing_over_the_tasks_own_outputs(smoothed: Any) -> None:
    torch.manual_seed(0)
    model = TaskModel(torch.nn.Linear(3, 5), [[0, 1], [2, 3, 4]], "task")
    images, labels = torch.rand(6, 3), torch.tensor([2, 3, 4, 4, 3, 2])
    plan = smoothed(name="smoothed", smoothing=0.3)
    strategy = build_strategy(plan, Stream([[0, 1], [2, 3, 4]], 6, np.random.default_rng(0)))
    loss = strategy.backward(model, Batch(images, labels, 1))
    wanted = torch.nn.functional.cross_entropy(model.network(images)[:, 2:], labels - 2, label_smoothing=0.3)
    assert torch.allclose(loss, wanted)


def test_settings_without_a_line_in_the_registry_are_told_by_name(
    smoothed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(STRATEGIES, smoothed)
    with pytest.raises(
        UserError, match="strategy 'smoothed' has settings, SmoothedSettings, but no line in STRATEGIES"
    ):
        build_strategy(smoothed(name="smoothed"), Stream([[0, 1]], 6, np.random.default_rng(0)))
