"""What a search draws, and what makes it another search."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from pipeline.search.space import read_space
from pipeline.search.study import opened
from pipeline.support.errors import UserError
from tests.search import search


def test_a_sampler_draws_up_to_both_ends_on_the_scale_that_was_asked_for_from_the_seed_of_the_search(
    tmp_path: Path,
) -> None:
    space = read_space(["lr=0.0001..1:log", "batch_size=8..9", "dropout=0..1"])
    with opened(tmp_path / "a.db", space, {}) as study:
        drawn = [study.propose("random", 0, number, 0) for number in range(80)]
        assert study.propose("random", 1, 0, 0) != drawn[0]
    assert {point["batch_size"] for point in drawn} == {8, 9}
    assert 20 < sum(point["lr"] < 0.01 for point in drawn) < 60  # half of a logarithmic scale; 1 in 100 of a plain one
    assert 20 < sum(point["dropout"] < 0.5 for point in drawn) < 60


def test_batches_make_another_search_only_where_trials_look_at_each_other() -> None:
    def key(**given: Any) -> dict[str, object]:
        return search(["lr=0.1,0.2"], **given).key()

    assert key(sampler="tpe", batch=2) != key(sampler="tpe", batch=4)
    assert key(sampler="random", batch=2) == key(sampler="random", batch=4)  # its trials do not look at each other


@pytest.mark.parametrize(
    ("reason", "fix"),
    [("database is locked", "fix that and run it again"), ("file is not a database", "delete ")],
)
def test_a_study_is_to_be_deleted_only_where_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str, fix: str
) -> None:
    class Failing:
        Error = sqlite3.Error

        @staticmethod
        def connect(path: Path) -> None:
            raise sqlite3.OperationalError(reason)

    (tmp_path / "study.db").touch()
    monkeypatch.setattr("pipeline.search.study.sqlite3", Failing)
    with pytest.raises(UserError, match=f"{reason}.*; {fix}"), opened(tmp_path / "study.db", {}, {}):
        pass
