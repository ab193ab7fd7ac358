"""From the metrics of single runs to the tables that people, `dvc plots` and the figures read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.files import read_json
from pipeline.metrics import average_accuracy_course

#: What the summary holds for each method: the mean over the seeds, and beside it the standard deviation.
METRICS = ("average_accuracy", "forgetting", "backward_transfer", "learning_accuracy", "largest_eigenvalue")

TABLES = ("runs", "average_accuracy", "accuracy", "train_loss", "eigenvalues", "largest_eigenvalue", "distance")


@dataclass(frozen=True)
class RunMetrics:
    """The two JSON files of one run."""

    method: str
    seed: int
    train: Mapping[str, Any]
    eigenspectrum: Mapping[str, Any]


def read_runs(folder: Path, methods: Sequence[str], seeds: Sequence[int]) -> list[RunMetrics]:
    """The configured runs and no others (a method that was removed leaves its files). Raises UserError."""
    return [
        RunMetrics(
            method,
            seed,
            read_json(folder / method / f"{seed}.json", f"run 'dvc repro train@{method}-{seed}'"),
            read_json(folder / method / f"{seed}.eigenspectrum.json", f"run 'dvc repro eigenspectrum@{method}-{seed}'"),
        )
        for method in methods
        for seed in seeds
    ]


def tables(runs: Sequence[RunMetrics]) -> dict[str, pd.DataFrame]:
    """The tables behind plots and figures, in long form, by file name. Tasks are numbered from 1.

    runs: one row a run, its metrics. average_accuracy: of the tasks learnt so far, after each. accuracy: the matrix, by
    tasks learnt (0: untrained) and task. train_loss: over the stream, in tasks. eigenvalues: rank 1 the largest by
    magnitude. largest_eigenvalue: of each task. distance: of the weights from those after task 1.
    """
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    for run in runs:
        key = {"method": run.method, "seed": run.seed}
        matrix = run.train["accuracy"]
        spectra = run.eigenspectrum["tasks"]
        single = {name: run.train[name] for name in METRICS if name in run.train}
        single["largest_eigenvalue"] = float(np.mean([max(spectrum["eigenvalues"]) for spectrum in spectra]))
        rows["runs"].append(key | single)
        for learnt, value in enumerate(average_accuracy_course(matrix), start=1):
            rows["average_accuracy"].append(key | {"tasks_learnt": learnt, "average_accuracy": round(float(value), 6)})
        for learnt, row in enumerate(matrix):
            for task, value in enumerate(row, start=1):
                rows["accuracy"].append(key | {"tasks_learnt": learnt, "task": task, "accuracy": value})
        for task, losses in enumerate(run.train["train_loss"]):
            for point, value in enumerate(losses, start=1):
                position = round(task + point / len(losses), 4)
                rows["train_loss"].append(key | {"tasks": position, "train_loss": value})
        for spectrum in spectra:
            pairs = zip(spectrum["eigenvalues"], spectrum["relative_residuals"], spectrum["converged"], strict=True)
            for rank, (value, residual, converged) in enumerate(pairs, start=1):
                rows["eigenvalues"].append(
                    key
                    | {
                        "task": spectrum["task"],
                        "rank": rank,
                        "eigenvalue": value,
                        "relative_residual": residual,
                        "converged": converged,
                    }
                )
            rows["largest_eigenvalue"].append(
                key | {"task": spectrum["task"], "largest_eigenvalue": max(spectrum["eigenvalues"])}
            )
        for task, value in enumerate(run.eigenspectrum["distance_from_task_1"], start=1):
            rows["distance"].append(key | {"task": task, "distance": value})
    return {name: pd.DataFrame(entries) for name, entries in rows.items()}


def summarize(runs: pd.DataFrame) -> dict[str, dict[str, float]]:
    """{method: {metric: mean over the seeds, metric_std: sample standard deviation}}; no std where there is one seed."""
    summary: dict[str, dict[str, float]] = {}
    for method, rows in runs.groupby("method", sort=False):
        entry = summary.setdefault(str(method), {})
        for metric in METRICS:
            if metric not in rows or rows[metric].isna().all():
                continue
            entry[metric] = round(float(rows[metric].mean()), 6)
            if len(rows) > 1:
                entry[f"{metric}_std"] = round(float(rows[metric].std(ddof=1)), 6)
    return summary


def summary_table(summary: Mapping[str, Mapping[str, float]], benchmark: str, seeds: int) -> pd.DataFrame:
    """The same for people: one row a method."""
    return pd.DataFrame(
        [{"benchmark": benchmark, "method": method, "seeds": seeds, **entry} for method, entry in summary.items()]
    )
