"""The record of a search."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.search.record import read_record, refuse_another_search, tabulate
from pipeline.search.space import Point
from pipeline.search.trials import Outcome
from pipeline.support.errors import UserError


def outcome(accuracy: float, seed: int = 101) -> Outcome:
    measures = {"average_accuracy": accuracy, "forgetting": 0.1, "learning_accuracy": 0.9}
    return Outcome(seed, "finished", [accuracy], measures)


def test_flags_and_null_stand_in_it_as_they_are_written_and_can_win(tmp_path: Path) -> None:
    points: list[Point] = [
        {"one_pass": True, "memory_batch": 10},
        {"one_pass": False, "memory_batch": None},
        {"one_pass": True, "memory_batch": None},
        {"one_pass": False, "memory_batch": 10},
    ]
    accuracies = [0.5, 0.8, 0.8, 0.6]
    table = tabulate([(point, [outcome(value)]) for point, value in zip(points, accuracies, strict=True)], pruned=False)
    path = tmp_path / "er.csv"
    table.to_csv(path, index=False)
    held = read_record(path)
    assert list(zip(held["one_pass"], held["memory_batch"], held["average_accuracy"], strict=True)) == [
        ("false", "null", 0.8), ("true", "null", 0.8), ("false", "10", 0.6), ("true", "10", 0.5),
    ]  # fmt: skip
    assert len(table.groupby(["one_pass", "memory_batch"])) == 4
    refuse_another_search(path, ["one_pass", "memory_batch"], points, [101])  # the same one may be repeated
    with pytest.raises(UserError, match="holds another search"):
        refuse_another_search(path, ["one_pass", "memory_batch"], points[:3], [101])
