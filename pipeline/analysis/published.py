"""Comparison of our methods with the rows of published results that they correspond to.

published.csv holds the results of TAG's experiments row by row, taken from the authors' own training logs, and those of the
protocol of A-GEM's authors (Chaudhry et al. 2019, arXiv 1812.00420 and 1902.10486), as their tables have them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.analysis.intervals import Estimate, described, estimate, verdict, welch_difference
from pipeline.config.plan import RunPlan
from pipeline.handover.published import PUBLISHED
from pipeline.handover.tables import read_table
from pipeline.support.errors import UserError

#: How the code of each paper counts forgetting: TAG's has the best accuracy of all, that at the end included; that of
#: A-GEM's authors leaves the end out.
FORGETTING = {
    "arXiv:2105.05155": "forgetting_paper",
    "arXiv:1812.00420": "forgetting",
    "arXiv:1902.10486": "forgetting",
}


@dataclass(frozen=True)
class Published:
    """One published row, compared with a method of ours by its settings.

    Attributes:
        row: The name of the row.
        accuracy: The average accuracy in percent.
        forgetting: The forgetting in percentage points; None if it was not published.
        learning_accuracy: The learning accuracy in percent; None if it was not published.
        differs: The settings of our method that differ from those of the row, such as "lr 0.1, not 0.05".
        by_run: The average accuracy in percent of each run that `accuracy` is the mean of, by its number in the order of
            the seeds, from 1; empty if only the mean was published.
        forgetting_metric: Which of our metrics `forgetting` is: `forgetting_paper` or `forgetting`, see
            `pipeline.analysis.metrics`.
    """

    row: str
    accuracy: Estimate
    forgetting: Estimate | None
    learning_accuracy: Estimate | None
    differs: tuple[str, ...]
    by_run: Mapping[int, float] = field(default_factory=dict)
    forgetting_metric: str = "forgetting_paper"


@dataclass(frozen=True)
class Comparison:
    """The average accuracy of a method of ours beside that of its published row.

    Attributes:
        method: The method.
        row: Its published row.
        ours: Our average accuracy in percent.
        difference: Ours minus the published one in percentage points, with Welch's interval.
        verdict: The verdict on the difference, see `pipeline.analysis.intervals.verdict`.
        by_seed: Our average accuracy of each seed in percent.
        forgetting: Our forgetting in percentage points, as the row counts it; None if our runs do not have it.
        learning_accuracy: Our learning accuracy in percent; None likewise.
    """

    method: str
    row: Published
    ours: Estimate
    difference: Estimate
    verdict: str
    by_seed: Mapping[int, float]
    forgetting: Estimate | None = None
    learning_accuracy: Estimate | None = None


def compare(runs: pd.DataFrame, plans: Mapping[str, RunPlan], benchmark: str, table: pd.DataFrame) -> list[Comparison]:
    """Compare every method that has both runs and a published row.

    Args:
        runs: One row for each run, with its `method`, its `seed` and its `average_accuracy` as a fraction.
        plans: The plans of the methods by name.
        benchmark: The benchmark of the runs.
        table: The published rows, as returned by `read_published`.

    Returns:
        The comparisons, in the order of `plans`.

    Raises:
        UserError: if a published row has no accuracy, or one that is damaged.
    """
    found = []
    for method, plan in plans.items():
        row = published_row(table, benchmark, plan)
        of_method = runs[runs["method"] == method]
        if row is not None and len(of_method):
            accuracies = 100 * of_method["average_accuracy"].astype(float)
            ours = estimate(list(accuracies))
            difference = welch_difference(ours, row.accuracy)
            by_seed = dict(zip(of_method["seed"].astype(int), accuracies, strict=True))
            others = _percent(of_method, row.forgetting_metric), _percent(of_method, "learning_accuracy")
            found.append(Comparison(method, row, ours, difference, verdict(difference), by_seed, *others))
    return found


def _percent(runs: pd.DataFrame, metric: str) -> Estimate | None:
    """The mean of a metric in percent over the runs that have it; None if none has."""
    values = [100 * float(value) for value in runs[metric].dropna()] if metric in runs else []
    return estimate(values) if values else None


def read_published(path: str | Path = "published.csv") -> pd.DataFrame:
    """Read the table of published results.

    Raises:
        UserError: if the file is missing or damaged, or lacks a column.
    """
    return read_table(path, PUBLISHED, f"restore it, e.g. with 'git checkout -- {path}'")


def published_row(table: pd.DataFrame, benchmark: str, plan: RunPlan) -> Published | None:
    """Find the published row of a plan.

    A row corresponds to a plan if it has the same benchmark, epochs, update rule, strategy, regime (with or without
    decay) and memory. Other settings may differ; they are listed in the result.

    Args:
        table: The published rows, as returned by `read_published`.
        benchmark: The benchmark of the plan.
        plan: The plan of a method.

    Returns:
        The row, or None if there is no such row or no single one.

    Raises:
        UserError: if the row has no accuracy, or one that is damaged.
    """
    optimizer = plan.optimizer
    rule = optimizer.tuned_name(optimizer.model_dump())
    strategy = _strategy(plan)
    if plan.regime.lr_decay < 1:
        if strategy != "finetune":
            return None
        strategy = "stable"
    elif optimizer.value_of("momentum"):
        return None  # the published SGD rows without decay have no momentum
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
    place = f"published.csv: row '{row['row']}' of {benchmark}"
    for key, published in _pairs(row["settings"], place):
        holder = next((held for held in (plan.strategy, optimizer) if key in type(held).model_fields), None)
        if holder is None:
            raise UserError(f"{place}: settings: neither {strategy} nor {optimizer.name} has '{key}'; restore the file")
        if not _same(own := _word(holder.value_of(key)), published):
            differs.append(f"{key} {own}, not {published}")

    def value(name: str, factor: float = 1.0) -> Estimate | None:
        # The standard deviations in the logs have the divisor n, and some rows lack the values of single runs.
        runs, mean, std = int(row["runs"]), factor * float(row[f"{name}_mean"]), factor * float(row[f"{name}_std"])
        if math.isnan(mean):
            return None
        return Estimate(runs, mean) if math.isnan(std) else described(runs, mean, std)

    accuracy = value("acc")
    if accuracy is None:
        raise UserError(f"{place} has no accuracy; restore the file")
    metric = FORGETTING[str(row["paper"])]
    told = str(row["row"]), accuracy, value("forgetting", 100), value("la"), tuple(differs)
    return Published(*told, _by_run(row, place), metric)


def _strategy(plan: RunPlan) -> str:
    """The strategy of a plan as published.csv names it; see `pipeline.handover.published.PUBLISHED_STRATEGIES`.

    What TAG's experiments call multi-task is passes over the tasks in sequence, what the A-GEM papers call so is joint
    batches; their replay is from a ring or a reservoir in one pass with the batch, and their memory batches of A-GEM are
    of 256, or of 1,300, which is the whole memory.
    """
    strategy = plan.strategy
    name = {"naive": "finetune", "multitask-passes": "multitask", "multitask": "multitask-joint"}.get(
        strategy.name, str(strategy.name)
    )
    if strategy.value_of("one_pass"):
        return f"{name}-{strategy.value_of('memory') or 'reservoir'}"
    if strategy.value_of("memory"):
        return f"{name}-{strategy.value_of('memory')} in two passes"  # nobody has published that
    if strategy.value_of("memory_batch"):
        return f"{name}-{strategy.value_of('memory_batch')}"
    return f"{name}-published" if strategy.value_of("published") else name


def _pairs(settings: Any, place: str) -> list[tuple[str, str]]:
    """The settings of strategy and update rule that a row tells beside the columns of all rows, if any: [("si_c", "0.1")]."""
    found = [] if pd.isna(settings) else [pair.partition("=") for pair in str(settings).split()]
    if any(not value for _, _, value in found):
        raise UserError(f"{place}: settings: must be key=value with spaces between, is '{settings}'; restore the file")
    return [(key, value) for key, _, value in found]


def _same(one: str, other: str) -> bool:
    """Whether two settings are the same, numbers however they are written."""
    try:
        return float(one) == float(other)
    except ValueError:
        return one == other


def _word(value: Any) -> str:
    """A setting as published.csv and the YAML files write it."""
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)


def _by_run(row: pd.Series, place: str) -> dict[int, float]:
    """The average accuracy of each run of a published row; empty if it is not there.

    A dash stands for a run of the logs that the row's mean leaves out: for two rows of TAG-EWC the logs have five runs, and
    the mean that they tell is that of the last three or two.
    """
    words = [] if pd.isna(row["acc_runs"]) else str(row["acc_runs"]).split()
    try:
        found = {number: float(word) for number, word in enumerate(words, start=1) if word != "-"}
    except ValueError as error:
        raise UserError(f"{place}: acc_runs: {error}; restore the file") from None
    if words and len(found) != row["runs"]:
        raise UserError(f"{place}: {row['runs']} runs, but acc_runs has {len(found)}; restore the file")
    return found
