"""The published numbers that a benchmark has, and which of our methods a row stands for.

published.csv holds TAG's experiments row by row, from the authors' own training logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.analysis.intervals import Estimate, described, estimate, verdict, welch_difference
from pipeline.config.plan import RunPlan
from pipeline.handover.tables import PUBLISHED, read_table
from pipeline.support.errors import UserError


@dataclass(frozen=True)
class Published:
    """One row. accuracy, learning_accuracy: in percent. forgetting: in points, as the papers count it (`forgetting_paper`).
    None where it was not published. differs: settings of ours that are not the row's, told in words."""

    row: str
    accuracy: Estimate
    forgetting: Estimate | None
    learning_accuracy: Estimate | None
    differs: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """A method of ours beside its published row, in percent. difference: ours less the published one, with Welch's interval.
    verdict: by the one rule for all rows, `pipeline.analysis.intervals.verdict`."""

    method: str
    row: Published
    ours: Estimate
    difference: Estimate
    verdict: str


def compare(runs: pd.DataFrame, plans: Mapping[str, RunPlan], benchmark: str, table: pd.DataFrame) -> list[Comparison]:
    """Every method that has runs and a published row. runs: method, average_accuracy as a fraction."""
    found = []
    for method, plan in plans.items():
        row = published_row(table, benchmark, plan)
        values = runs[runs["method"] == method]["average_accuracy"]
        if row is not None and len(values):
            ours = estimate([100 * float(value) for value in values])
            difference = welch_difference(ours, row.accuracy)
            found.append(Comparison(method, row, ours, difference, verdict(difference)))
    return found


def read_published(path: str | Path = "published.csv") -> pd.DataFrame:
    """The table. Raises UserError where it is missing, damaged or lacks a column."""
    return read_table(path, PUBLISHED, f"restore it, e.g. with 'git checkout -- {path}'")


def published_row(table: pd.DataFrame, benchmark: str, plan: RunPlan) -> Published | None:
    """The row with this benchmark, epochs, update rule, strategy, regime and memory; None where none was published."""
    optimizer = plan.optimizer
    rule = optimizer.tuned_name(optimizer.model_dump())
    strategy = {"naive": "finetune", "multitask-passes": "multitask"}.get(plan.strategy.name, plan.strategy.name)
    if plan.strategy.name == "multitask":
        return None  # joint batches: the papers' multi-task is passes in sequence
    if plan.regime.lr_decay < 1:
        if strategy != "finetune":
            return None
        strategy = "stable"
    elif optimizer.value_of("momentum"):
        return None  # the published SGD rows without decay have none
    rows = table[
        (table["benchmark"] == benchmark)
        & (table["epochs"] == plan.training.epochs)
        & (table["optimizer"] == rule)
        & (table["strategy"] == strategy)
    ]
    memory = plan.strategy.value_of("memory_per_class")
    if memory is not None:
        rows = rows[rows["memory_per_class"] == memory]
    if len(rows) != 1:
        return None
    row = rows.iloc[0]
    ours = {
        "lr": optimizer.lr,
        "lr_decay": plan.regime.lr_decay,
        "dropout": plan.regime.dropout,
        "batch_size": plan.training.batch_size,
        "b": optimizer.value_of("b"),
        "ewc_lambda": plan.strategy.value_of("ewc_lambda"),
    }
    differs = [
        f"{key} {value:g}, not {row[key]:g}"
        for key, value in ours.items()
        if value is not None and not pd.isna(row[key]) and float(row[key]) != float(value)
    ]

    def value(name: str, factor: float = 1.0) -> Estimate | None:
        # The logs' standard deviations have the divisor n, and some rows lack their single runs.
        mean, std = factor * float(row[f"{name}_mean"]), factor * float(row[f"{name}_std"])
        return None if pd.isna(mean) else described(int(row["runs"]), mean, std)

    accuracy = value("acc")
    if accuracy is None:
        raise UserError(f"published.csv: row '{row['row']}' of {benchmark} has no accuracy; restore the file")
    return Published(str(row["row"]), accuracy, value("forgetting", 100), value("la"), tuple(differs))
