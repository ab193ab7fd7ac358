"""Tables of plots/ that are each right by themselves, and do not belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.analysis.tables import tables
from pipeline.handover.plots import check_plots
from pipeline.support.errors import UserError
from tests.handover.doors import RUNS


@pytest.mark.parametrize(
    ("name", "keep", "told"),
    [
        ("average_accuracy", "method != 'stable'", "runs.csv do not agree on stable, seed 1"),
        ("runs", "method != 'stable'", "do not agree on stable, seed 1"),
        ("accuracy", "not (method == 'naive' and seed == 2 and task == 2)", "accuracy.csv: rows are missing"),
        ("average_accuracy", "not (method == 'naive' and tasks_learnt == 2)", "must have 2 of its tasks"),
        ("eigenvalues", "not (method == 'naive' and task == 1)", "eigenvalues.csv: rows are missing"),
        ("distance", "method != 'naive'", "distance.csv: and eigenvalues.csv have other runs"),
    ],
)
def test_tables_that_do_not_belong_together_are_refused(name: str, keep: str, told: str) -> None:
    made = tables(RUNS)
    check_plots(made, Path("plots"), "fix it")
    with pytest.raises(UserError, match=rf"{told}.*; fix it"):
        check_plots(made | {name: made[name].query(keep)}, Path("plots"), "fix it")
