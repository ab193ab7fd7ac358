"""Schemas of the CSV files that stages and commands exchange, and a reader that converts nothing silently.

pandas alone would accept a table that lacks its last columns, turn a name that looks like a number into one, take the
word `nan` for a missing value, and keep duplicate rows.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from pipeline.config.update_rules import TunedRule
from pipeline.support.errors import UserError

#: The kind of values in a column. name: a name of a method or benchmark; text: any single line; whole: an integer
#: within bounds; number: a finite number within bounds; flag: True or False.
Kind = Literal["name", "text", "whole", "number", "flag"]

_NAME = re.compile("[a-z0-9]+(-[a-z0-9]+)*")
_LINE = re.compile("[^\x00-\x1f]+")


@dataclass(frozen=True)
class Column:
    """The schema of one column.

    Attributes:
        kind: The kind of its values.
        low: Smallest allowed number.
        high: Largest allowed number.
        blank: Whether a cell may be empty.
        optional: Whether the column may be missing.
        words: The allowed texts; if empty, any text is.
    """

    kind: Kind
    low: float = -inf
    high: float = inf
    blank: bool = False
    optional: bool = False
    words: tuple[str, ...] = ()

    def fault(self, values: pd.Series) -> str | None:
        """Check the values of the column.

        Returns:
            What is wrong with them, as the predicate of a sentence about the column; None if nothing is.
        """
        filled = values.dropna()
        if len(filled) < len(values) and not self.blank:
            return "has an empty cell"
        if not len(filled):
            return None
        if self.kind in ("name", "text"):
            shape = _NAME if self.kind == "name" else _LINE
            wrong = [word for word in filled if not isinstance(word, str) or not shape.fullmatch(word)]
            wrong = wrong or [word for word in filled if self.words and word not in self.words]
            return f"holds {_shown(wrong[0])}" if wrong else None
        if self.kind == "flag":
            return None if pd.api.types.is_bool_dtype(filled) else "holds values other than True and False"
        whole = pd.api.types.is_integer_dtype(filled)
        if pd.api.types.is_bool_dtype(filled) or not (whole or pd.api.types.is_float_dtype(filled)):
            wrong = [word for word in filled if _no_number(word)]
            return f"holds {_shown(wrong[0]) if wrong else 'words'}, which is not a number"
        if self.kind == "whole" and not whole:
            return "holds a number that is not whole"
        out = filled[~np.isfinite(filled.astype(float)) | (filled < self.low) | (filled > self.high)]
        return f"holds {out.iloc[0]}, outside {self.low:g}..{self.high:g}" if len(out) else None


def _no_number(word: Any) -> bool:
    try:
        float(word)
    except (TypeError, ValueError):
        return True
    return False


def _shown(word: Any) -> str:
    text = repr(word)
    return text if len(text) <= 40 else f"{text[:37]}..."


@dataclass(frozen=True)
class Table:
    """The schema of one table.

    Attributes:
        columns: Its columns by name.
        key: Names of the columns whose combined values must differ from row to row; if empty, rows may repeat.
        least: Smallest allowed number of rows.
    """

    columns: Mapping[str, Column]
    key: tuple[str, ...] = ()
    least: int = 0


_METHOD, _SEED = Column("name"), Column("whole", 0, 2**63 - 1)
_TASK, _LEARNT, _TASKS = Column("whole", 1, 1000), Column("whole", 0, 1000), Column("number", 0, 1000)
_FRACTION, _CHANGE, _SIZE, _ANY = Column("number", 0, 1), Column("number", -1, 1), Column("number", 0), Column("number")


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

#: The tables in plots/, by file name without .csv; `pipeline.analysis.summary.tables` makes them.
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
            "lambda_distance_squared": _ANY,
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
            "bound": _ANY,
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

_PERCENT = Column("number", 0, 100)
_RUNS = Column("text", blank=True)

#: Names of strategies in published.csv: those of TAG's code, in which multi-task learning is passes over the tasks in
#: sequence, and those of the A-GEM papers' protocol.
PUBLISHED_STRATEGIES = (
    "finetune", "agem", "er", "stable", "ewc", "multitask",
    "online-ewc", "si", "mas-published", "gem", "agem-256", "agem-1300", "er-ring", "er-reservoir", "multitask-joint",
)  # fmt: skip

#: TAG, A-GEM, and tiny episodic memories.
PUBLISHED_PAPERS = ("arXiv:2105.05155", "arXiv:1812.00420", "arXiv:1902.10486")

#: published.csv: the results of TAG's experiments and of the A-GEM papers' protocol; see `pipeline.analysis.published`.
PUBLISHED = Table(
    {
        "paper": Column("text", words=PUBLISHED_PAPERS),
        "benchmark": Column("name"),
        "epochs": Column("whole", 1),
        "row": Column("text"),
        "optimizer": Column("text", words=get_args(TunedRule)),
        "strategy": Column("text", words=PUBLISHED_STRATEGIES),
        "lr": replace(_SIZE, blank=True),
        "lr_decay": _FRACTION,
        "dropout": _FRACTION,
        "batch_size": Column("whole", 1),
        "b": replace(_ANY, blank=True),
        "ewc_lambda": replace(_SIZE, blank=True),
        "memory_per_class": Column("number", 1, blank=True),
        "settings": Column("text", blank=True),  # of the strategy: key=value, with spaces between
        "runs": Column("whole", 1),
        "acc_mean": _PERCENT,
        "acc_std": replace(_PERCENT, blank=True),
        "forgetting_mean": replace(_CHANGE, blank=True),
        "forgetting_std": replace(_FRACTION, blank=True),
        "la_mean": replace(_PERCENT, blank=True),
        "la_std": replace(_PERCENT, blank=True),
        "acc_runs": _RUNS,
        "forgetting_runs": _RUNS,
        "la_runs": _RUNS,
    },
    ("benchmark", "epochs", "optimizer", "strategy", "memory_per_class"),
    least=1,
)


def check_table(frame: pd.DataFrame, table: Table, path: str | Path, fix: str) -> pd.DataFrame:
    """Check that a data frame matches a table's schema.

    Args:
        frame: The data frame.
        table: The schema.
        path: The file that it comes from or goes to, for the error message.
        fix: What the user can do about a bad table; ends the error message.

    Returns:
        The same data frame.

    Raises:
        UserError: at the first fault: a missing or unknown column, too few rows, a bad value or a duplicate key.
    """
    missing = [name for name, column in table.columns.items() if not column.optional and name not in frame]
    unknown = [name for name in frame.columns if name not in table.columns]
    if missing or unknown:
        problem = (
            f"lacks the column {missing[0]}"
            if missing
            else f"has a column that is none of its own, {_shown(unknown[0])}"
        )
        raise UserError(f"{path}: {problem}; {fix}")
    if len(frame) < table.least:
        raise UserError(f"{path}: has no rows; {fix}")
    if len(frame):
        for name in frame.columns:
            if fault := table.columns[str(name)].fault(frame[name]):
                raise UserError(f"{path}: column {name} {fault}; {fix}")
    key = list(table.key)
    if key and frame.duplicated(key).any():
        again = frame[frame.duplicated(key)].iloc[0]
        raise UserError(f"{path}: {', '.join(f'{name} {again[name]}' for name in key)} stands twice; {fix}")
    return frame


def read_table(path: str | Path, table: Table, fix: str) -> pd.DataFrame:
    """Read a CSV file and check it.

    Args:
        path: The file.
        table: The schema.
        fix: What the user can do about a missing or bad file; ends the error message.

    Raises:
        UserError: if the file is missing, damaged or does not match the schema.
    """
    words: dict[Any, Any] = {name: str for name, column in table.columns.items() if column.kind in ("name", "text")}
    try:
        _check_shape(Path(path).read_text(encoding="utf-8"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # Only an empty cell is a missing value: a method may be called nan.
            frame = pd.read_csv(path, dtype=words, index_col=False, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise UserError(f"{path}: missing; {fix}") from None
    except pd.errors.EmptyDataError:
        raise UserError(f"{path}: empty; {fix}") from None
    except (ValueError, csv.Error, pd.errors.ParserWarning, pd.errors.DtypeWarning, OverflowError) as error:
        raise UserError(f"{path}: not such a table ({' '.join(str(error).split())[:200]}); {fix}") from None
    return check_table(frame, table, path, fix)


def _check_shape(text: str) -> None:
    """Raise ValueError if a row is not as long as the first, or the last line was truncated.

    pandas would fill in the missing cells.
    """
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    width = len(next(rows, []))
    for row in rows:
        if len(row) != width:
            raise ValueError(f"line {rows.line_num} has {len(row)} cells, not {width}")
    if text and not text.endswith("\n"):
        raise ValueError("its last line was cut")


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
