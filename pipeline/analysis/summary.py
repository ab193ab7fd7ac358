"""From the metrics of single runs to the tables that people, `dvc plots` and the figures read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.analysis.metrics import average_accuracy_course
from pipeline.handover.documents import read_document
from pipeline.handover.runs import Trained, check_tasks
from pipeline.handover.spectra import Spectra
from pipeline.support.errors import UserError

#: What the summary holds for each method: the mean over the seeds, and beside it the standard deviation.
METRICS = (
    "average_accuracy",
    "forgetting",
    "forgetting_paper",
    "backward_transfer",
    "learning_accuracy",
    "largest_eigenvalue",
    "movement_overlap",
)

#: Of those, what `dvc metrics` shows: as many columns as a screen takes.
COMPARED = ("average_accuracy", "forgetting", "learning_accuracy", "largest_eigenvalue")

#: The tables of plots/, and their columns beside `method` and `seed`.
TABLES: dict[str, tuple[str, ...]] = {
    "runs": METRICS,
    "average_accuracy": ("tasks_learnt", "average_accuracy"),
    "accuracy": ("tasks_learnt", "task", "accuracy"),
    "train_loss": ("tasks", "train_loss"),
    "eigenvalues": ("task", "rank", "eigenvalue", "relative_residual", "converged", "moment"),
    "largest_eigenvalue": ("task", "largest_eigenvalue"),
    "distance": ("task", "distance"),
    "movement": ("task", "tasks_learnt", "distance", "overlap", "lambda_distance_squared", "forgetting", "loss_rise"),
    "density": ("task", "probe", "node", "weight"),
    "alpha": ("task", "earlier_task", "alpha"),
    "alpha_course": ("tasks", "earlier_task", "alpha"),
}


@dataclass(frozen=True)
class RunMetrics:
    """The two JSON files of one run. eigenspectrum: None where it is not there yet."""

    method: str
    seed: int
    train: Mapping[str, Any]
    eigenspectrum: Mapping[str, Any] | None


def read_runs(
    folder: Path, methods: Sequence[str], seeds: Sequence[int]
) -> tuple[list[RunMetrics], list[tuple[str, int, str]]]:
    """The configured runs that are there and no others (a method that was removed leaves its files); and what is missing:
    method, seed, and train or eigenspectrum. Raises UserError for a damaged file, or where no run is there at all."""
    runs: list[RunMetrics] = []
    missing: list[tuple[str, int, str]] = []
    for method in methods:
        for seed in seeds:
            metrics, spectrum = (folder / method / f"{seed}{kind}.json" for kind in ("", ".eigenspectrum"))
            trained, spectra = None, None
            if metrics.exists():
                trained = read_document(Trained, metrics, f"run 'dvc repro train@{method}-{seed}'")
            else:
                missing.append((method, seed, "train"))
            fix = f"run 'dvc repro eigenspectrum@{method}-{seed}'"
            if spectrum.exists():
                spectra = read_document(Spectra, spectrum, fix)
            else:
                missing.append((method, seed, "eigenspectrum"))
            if trained is not None:
                check_tasks(trained, spectra, spectrum, fix)
                runs.append(RunMetrics(method, seed, trained.plain(), spectra.plain() if spectra else None))
    if not runs:
        raise UserError(f"{folder}: no run is there; run 'dvc repro'")
    return runs, missing


def tables(runs: Sequence[RunMetrics]) -> dict[str, pd.DataFrame]:
    """The tables behind plots and figures, in long form, by file name. Tasks are numbered from 1.

    runs: one row a run, its metrics. average_accuracy: of the tasks learnt so far, after each. accuracy: the matrix, by
    tasks learnt (0: untrained) and task. train_loss: over the stream, in tasks. eigenvalues: rank 1 the largest by
    magnitude; moment: learnt (right after the task) or end (of the stream). largest_eigenvalue: of each task. distance: of
    the weights from those after task 1. movement: how far the weights went since a task was learnt, the share of it within
    its top eigenvectors, lambda_1 times its square, and what the task has lost in accuracy and loss (on the test images)
    meanwhile. density: nodes and weights of each task's spectral density. alpha: TAG's
    alpha(task, earlier task), mean over tensors and steps; alpha_course: the same over the stream.
    """
    made: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    for run in runs:
        key = {"method": run.method, "seed": run.seed}
        curvature = _curvature_rows(run.eigenspectrum, run.train) if run.eigenspectrum else {}
        for table, rows in (_training_rows(run.train) | curvature).items():
            made[table] += [key | row for row in rows]
        spectra = run.eigenspectrum["tasks"] if run.eigenspectrum else []
        metrics = {name: run.train[name] for name in METRICS if name in run.train}
        if spectra:
            metrics["largest_eigenvalue"] = float(np.mean([max(spectrum["eigenvalues"]) for spectrum in spectra]))
        if moved := [spectrum["movement"][-1]["overlap"] for spectrum in spectra if spectrum.get("movement")]:
            metrics["movement_overlap"] = float(np.mean(moved))
        made["runs"].append(key | metrics)
    return {
        name: pd.DataFrame(rows, columns=["method", "seed", *TABLES[name]]).dropna(axis="columns", how="all")
        if rows
        else pd.DataFrame(columns=["method", "seed", *TABLES[name]])
        for name, rows in made.items()
    }


TableRows = list[dict[str, Any]]


def _training_rows(train: Mapping[str, Any]) -> dict[str, TableRows]:
    matrix = train["accuracy"]
    course = enumerate(average_accuracy_course(matrix), start=1)
    rows: dict[str, TableRows] = {
        "average_accuracy": [
            {"tasks_learnt": learnt, "average_accuracy": round(float(value), 6)} for learnt, value in course
        ],
        "accuracy": [
            {"tasks_learnt": learnt, "task": task, "accuracy": value}
            for learnt, row in enumerate(matrix)
            for task, value in enumerate(row, start=1)
            if value is not None
        ],
        "train_loss": [
            {"tasks": _position(task, point, losses), "train_loss": value}
            for task, losses in enumerate(train["train_loss"])
            for point, value in enumerate(losses, start=1)
        ],
        "alpha": [],
        "alpha_course": [],
    }
    for task, points in enumerate(train.get("alpha", ())):
        for earlier, value in enumerate(np.mean(points, axis=0), start=1):
            rows["alpha"].append({"task": task + 1, "earlier_task": earlier, "alpha": round(float(value), 6)})
        for point, values in enumerate(points, start=1):
            for earlier, value in enumerate(values, start=1):
                position = _position(task, point, points)
                rows["alpha_course"].append({"tasks": position, "earlier_task": earlier, "alpha": value})
    return rows


def _position(task: int, point: int, points: Sequence[Any]) -> float:
    """Place of a stretch of steps (its end) on the stream, in tasks."""
    return round(task + point / len(points), 4)


def _curvature_rows(eigenspectrum: Mapping[str, Any], train: Mapping[str, Any]) -> dict[str, TableRows]:
    spectra = eigenspectrum["tasks"]
    return {
        "eigenvalues": _pairs(spectra, "learnt") + _pairs(eigenspectrum.get("end_of_stream", ()), "end"),
        "largest_eigenvalue": [
            {"task": spectrum["task"], "largest_eigenvalue": max(spectrum["eigenvalues"])} for spectrum in spectra
        ],
        "distance": [
            {"task": task, "distance": value}
            for task, value in enumerate(eigenspectrum["distance_from_task_1"], start=1)
        ],
        "movement": [
            _movement(spectrum["task"], moved, train) for spectrum in spectra for moved in spectrum.get("movement", ())
        ],
        "density": [
            {"task": spectrum["task"], "probe": probe + 1, "node": node, "weight": weight}
            for spectrum in spectra
            if "density" in spectrum
            for probe, (nodes, weights) in enumerate(
                zip(spectrum["density"]["nodes"], spectrum["density"]["weights"], strict=True)
            )
            for node, weight in zip(nodes, weights, strict=True)
        ],
    }


def _pairs(spectra: Sequence[Mapping[str, Any]], moment: str) -> TableRows:
    return [
        {
            "task": spectrum["task"],
            "rank": rank + 1,
            "eigenvalue": value,
            "relative_residual": spectrum["relative_residuals"][rank],
            "converged": spectrum["converged"][rank],
            "moment": moment,
        }
        for spectrum in spectra
        for rank, value in enumerate(spectrum["eigenvalues"])
    ]


def _movement(task: int, moved: Mapping[str, Any], train: Mapping[str, Any]) -> dict[str, Any]:
    """What a task has lost since it was learnt, beside how the weights have moved. Rows of the matrices are tasks learnt."""
    later = moved["task"]
    return {
        "task": task,
        "tasks_learnt": later,
        "distance": moved["distance"],
        "overlap": moved["overlap"],
        "lambda_distance_squared": moved["lambda_distance_squared"],
        "forgetting": round(train["accuracy"][task][task - 1] - train["accuracy"][later][task - 1], 6),
        "loss_rise": round(train["test_loss"][later][task - 1] - train["test_loss"][task][task - 1], 6),
    }


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


def summary_table(summary: Mapping[str, Mapping[str, float]], benchmark: str, runs: pd.DataFrame) -> pd.DataFrame:
    """The same for people: one row a method, with the number of its seeds."""
    seeds = runs.groupby("method")["seed"].count()
    return pd.DataFrame(
        [
            {"benchmark": benchmark, "method": method, "seeds": int(seeds[method]), **entry}
            for method, entry in summary.items()
        ]
    )
