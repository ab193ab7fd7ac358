"""Schemas of the tables in plots/ and of metrics/summary.csv, which the stage summarize writes and others read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.handover.tables import Column, Table
from pipeline.support.errors import UserError

_METHOD, _SEED = Column("name"), Column("whole", 0, 2**63 - 1)
_TASK, _LEARNT, _TASKS = Column("whole", 1, 1000), Column("whole", 0, 1000), Column("number", 0, 1000)
_FRACTION, _CHANGE, _SIZE, _ANY = Column("number", 0, 1), Column("number", -1, 1), Column("number", 0), Column("number")
#: Empty where all eigenvalues found of a task are negative.
_BOUND = Column("number", blank=True)


def _missing(column: Column) -> Column:
    return replace(column, blank=True, optional=True)


def _of_runs(key: tuple[str, ...], columns: Mapping[str, Column], least: int = 0, once: bool = True) -> Table:
    return Table({"method": _METHOD, "seed": _SEED, **columns}, ("method", "seed", *key) if once else (), least)


_METRICS = {
    "average_accuracy": _FRACTION,
    "forgetting": _missing(_CHANGE),
    "forgetting_paper": _missing(_CHANGE),
    "backward_transfer": _missing(_CHANGE),
    "learning_accuracy": _FRACTION,
    "largest_eigenvalue": _missing(_ANY),
    "movement_overlap": _missing(Column("number", 0, 1.01)),
    "average_anytime_accuracy": _missing(_FRACTION),
    "worst_case_accuracy": _missing(_FRACTION),
    "average_minimum_accuracy": _missing(_FRACTION),
    "stability_gap": _missing(_FRACTION),
}

#: The tables in plots/, by file name without .csv; `pipeline.analysis.tables.tables` makes them.
PLOTS: dict[str, Table] = {
    "runs": _of_runs((), _METRICS, least=1),
    "average_accuracy": _of_runs(("tasks_learnt",), {"tasks_learnt": _TASK, "average_accuracy": _FRACTION}, least=1),
    "accuracy": _of_runs(
        ("tasks_learnt", "task"), {"tasks_learnt": _LEARNT, "task": _TASK, "accuracy": _FRACTION}, least=1
    ),
    "train_loss": _of_runs(("tasks",), {"tasks": _TASKS, "train_loss": _ANY}, least=1),
    "eigenvalues": _of_runs(
        ("task", "rank", "moment"),
        {
            "task": _TASK,
            "rank": Column("whole", 1),
            "eigenvalue": _ANY,
            "relative_residual": _SIZE,
            "converged": Column("flag"),
            "moment": Column("text", words=("learnt", "end")),
            "matrix": Column("text", words=("hessian", "gauss-newton", "fisher")),
            "images": Column("text", words=("test", "train")),
            "examples": Column("whole", 1),
        },
    ),
    "largest_eigenvalue": _of_runs(("task",), {"task": _TASK, "largest_eigenvalue": _ANY}),
    "distance": _of_runs(("task",), {"task": _TASK, "distance": _SIZE}),
    "movement": _of_runs(
        ("task", "tasks_learnt"),
        {
            "task": _TASK,
            "tasks_learnt": _TASK,
            "distance": _SIZE,
            "overlap": Column("number", 0, 1.01),
            "lambda_distance_squared": _BOUND,
            "forgetting": _CHANGE,
            "loss_rise": _ANY,
        },
    ),
    "prediction": _of_runs(
        ("task", "tasks_learnt"),
        {
            "task": _TASK,
            "tasks_learnt": _TASK,
            "gradient_term": _ANY,
            "quadratic_term": _ANY,
            "predicted_rise": _ANY,
            "bound": _BOUND,
            "rise": _ANY,
            "barrier": _SIZE,
        },
    ),
    "line": _of_runs(
        ("task", "tasks_learnt", "position"),
        {
            "task": _TASK,
            "tasks_learnt": _TASK,
            "position": _FRACTION,
            "loss": _SIZE,
            "accuracy": _FRACTION,
            "model": _ANY,
        },
    ),
    "moments": _of_runs(
        ("task", "estimate"),
        {
            "task": _TASK,
            "estimate": Column("text", words=("density", "signs")),
            "trace": _ANY,
            "trace_error": _missing(_SIZE),
            "frobenius": _SIZE,
            "frobenius_error": _missing(_SIZE),
        },
    ),
    "layers": _of_runs(
        ("task", "layer"),
        {
            "task": _TASK,
            "layer": Column("whole", 1),
            "name": Column("text"),
            "parameters": Column("whole", 1),
            "eigenvalue": _ANY,
            "relative_residual": _SIZE,
            "converged": Column("flag"),
        },
    ),
    "density": _of_runs((), {"task": _TASK, "probe": Column("whole", 1), "node": _ANY, "weight": _SIZE}, once=False),
    "alpha": _of_runs(("task", "earlier_task"), {"task": _TASK, "earlier_task": _TASK, "alpha": _SIZE}),
    "alpha_course": _of_runs(("tasks", "earlier_task"), {"tasks": _TASKS, "earlier_task": _TASK, "alpha": _SIZE}),
}

#: metrics/summary.csv: one row per method, its metrics as means over the seeds with their standard deviations.
SUMMARY = Table(
    {
        "benchmark": Column("name"),
        "method": _METHOD,
        "seeds": Column("whole", 1),
        **_METRICS,
        **{f"{name}_std": replace(_SIZE, blank=True, optional=True) for name in _METRICS},
    },
    ("method",),
    least=1,
)


def check_plots(tables: Mapping[str, pd.DataFrame], folder: Path, fix: str) -> None:
    """Check that the tables in plots/ belong together.

    A table may only have runs that runs.csv has, and a table that cannot be empty must have all of them; each run must
    have rows for all tasks.

    Args:
        tables: The tables by name, each already checked by itself.
        folder: The folder of the tables, for error messages.
        fix: What the user can do about a mismatch; ends the error message.

    Raises:
        UserError: if they do not agree.
    """
    runs = _pairs(tables["runs"])
    for name, frame in tables.items():
        pairs = _pairs(frame)
        if not pairs <= runs or (PLOTS[name].least and pairs != runs):
            method, seed = sorted(pairs ^ runs)[0]
            raise UserError(f"{folder / f'{name}.csv'}: and runs.csv do not agree on {method}, seed {seed}; {fix}")
    accuracy = tables["accuracy"]
    tasks = int(accuracy["task"].max())
    learnt = accuracy[accuracy["tasks_learnt"] >= accuracy["task"]]
    _each(learnt, tasks * (tasks + 1) // 2, folder / "accuracy.csv", fix)
    _each(tables["average_accuracy"], tasks, folder / "average_accuracy.csv", fix)
    eigenvalues = tables["eigenvalues"]
    if len(eigenvalues):
        largest = eigenvalues[(eigenvalues["rank"] == 1) & (eigenvalues["moment"] == "learnt")]
        _each(largest, tasks, folder / "eigenvalues.csv", fix, _pairs(eigenvalues))
        if _pairs(tables["distance"]) != _pairs(eigenvalues):
            raise UserError(f"{folder / 'distance.csv'}: and eigenvalues.csv have other runs; {fix}")


def _pairs(frame: pd.DataFrame) -> set[tuple[str, int]]:
    return set(zip(frame["method"], frame["seed"], strict=True))


def _each(
    frame: pd.DataFrame, count: int, path: Path, fix: str, pairs: Sequence[Any] | set[tuple[str, int]] | None = None
) -> None:
    """Raise UserError unless each run in the frame has `count` rows and, if `pairs` is given, as many runs have any."""
    found = frame.groupby(["method", "seed"]).size()
    if set(found) - {count} or (pairs is not None and len(found) != len(pairs)):
        raise UserError(f"{path}: rows are missing, every run must have {count} of its tasks; {fix}")
