"""The tables behind `dvc plots` and the figures, from the metrics of single runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.analysis.metrics import average_accuracy_course
from pipeline.analysis.runs import RunMetrics

#: The metrics in the summary of each method, as the mean and the standard deviation over the seeds.
METRICS = (
    "average_accuracy",
    "forgetting",
    "forgetting_paper",
    "backward_transfer",
    "learning_accuracy",
    "largest_eigenvalue",
    "movement_overlap",
    "average_anytime_accuracy",
    "worst_case_accuracy",
    "average_minimum_accuracy",
    "stability_gap",
)

#: The tables in plots/, and their columns apart from `method` and `seed`.
TABLES: dict[str, tuple[str, ...]] = {
    "runs": METRICS,
    "average_accuracy": ("tasks_learnt", "average_accuracy"),
    "accuracy": ("tasks_learnt", "task", "accuracy"),
    "train_loss": ("tasks", "train_loss"),
    "eigenvalues": (
        "task",
        "rank",
        "eigenvalue",
        "relative_residual",
        "converged",
        "moment",
        "matrix",
        "images",
        "examples",
    ),
    "largest_eigenvalue": ("task", "largest_eigenvalue"),
    "distance": ("task", "distance"),
    "movement": ("task", "tasks_learnt", "distance", "overlap", "lambda_distance_squared", "forgetting", "loss_rise"),
    "prediction": (
        "task",
        "tasks_learnt",
        "gradient_term",
        "quadratic_term",
        "predicted_rise",
        "bound",
        "rise",
        "barrier",
    ),
    "line": ("task", "tasks_learnt", "position", "loss", "accuracy", "model"),
    "density": ("task", "probe", "node", "weight"),
    "moments": ("task", "estimate", "trace", "trace_error", "frobenius", "frobenius_error"),
    "layers": ("task", "layer", "name", "parameters", "eigenvalue", "relative_residual", "converged"),
    "alpha": ("task", "earlier_task", "alpha"),
    "alpha_course": ("tasks", "earlier_task", "alpha"),
}
#: Columns that a table has even where every cell is empty.
ALWAYS = {"lambda_distance_squared", "bound"}


def tables(runs: Sequence[RunMetrics]) -> dict[str, pd.DataFrame]:
    """Build the tables behind plots and figures, in long form.

    - runs: one row for each run, with its metrics.
    - average_accuracy: on the tasks learnt so far, after each task.
    - accuracy: the accuracy matrix, by number of tasks learnt (0 for the untrained network) and task.
    - train_loss: the training loss over the stream; the position is given in tasks.
    - eigenvalues: of each task, rank 1 being the largest by magnitude; `moment` is "learnt" (right after the task) or
      "end" (of the stream), `matrix` what they are of, `images` and `examples` what images of the task its loss is over
      and how many.
    - largest_eigenvalue: of each task, right after it was learnt.
    - distance: of the weights after each task from those after task 1.
    - movement: the distance ||dw|| that the weights have moved since a task was learnt, the share of ||dw||^2
      (`overlap`) within the span of the task's top eigenvectors, lambda_1 ||dw||^2 (empty where all eigenvalues found
      are negative, so that lambda_1 is not known), and what the task has meanwhile lost in accuracy and loss on the test
      images.
    - prediction: what the quadratic model of a task's loss predicts it to rise by until later tasks are learnt, the
      bound lambda_1 ||dw||^2 / 2 (empty likewise), the rise itself, all on the images of the eigenspectrum and in nats;
      and the barrier, how far the loss on the straight line between the weights exceeds the line between its ends.
    - line: the loss and accuracy of a task along those lines, and the loss of the quadratic model there.
    - density: the nodes and weights of the spectral density of each task, by probe.
    - moments: trace and Frobenius norm of each task's matrix with their standard errors; `estimate` is "density" (from
      its quadrature) or "signs" (Hutchinson).
    - layers: the largest eigenvalue of the block of each layer of each task's matrix; layers count from the input.
    - alpha: TAG's alpha(task, earlier task), as the mean over tensors and steps.
    - alpha_course: the same over the stream.

    Args:
        runs: The runs, as returned by `read_runs`.

    Returns:
        The tables by name, with the columns of `TABLES`; columns without any value are left out, but for those of
        `ALWAYS`. Tasks are numbered from 1.
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
        name: _without_empty(pd.DataFrame(rows, columns=["method", "seed", *TABLES[name]]))
        if rows
        else pd.DataFrame(columns=["method", "seed", *TABLES[name]])
        for name, rows in made.items()
    }


def _without_empty(table: pd.DataFrame) -> pd.DataFrame:
    """A table without the columns that have no value."""
    return table.drop(columns=[name for name in table if name not in ALWAYS and table[name].isna().all()])


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
    """The position in the stream, in tasks, of the end of a stretch of steps."""
    return round(task + point / len(points), 4)


def _curvature_rows(eigenspectrum: Mapping[str, Any], train: Mapping[str, Any]) -> dict[str, TableRows]:
    spectra = eigenspectrum["tasks"]
    return {
        "eigenvalues": _pairs(eigenspectrum, "tasks", "learnt") + _pairs(eigenspectrum, "end_of_stream", "end"),
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
        "prediction": [
            _prediction(spectrum["task"], moved)
            for spectrum in spectra
            for moved in spectrum.get("movement", ())
            if "line_loss" in moved
        ],
        "line": [
            point
            for spectrum in spectra
            for moved in spectrum.get("movement", ())
            if "line_loss" in moved
            for point in _line(spectrum["task"], moved)
        ],
        "moments": [
            {"task": spectrum["task"], "estimate": name, **{key: found.get(key) for key in TABLES["moments"][2:]}}
            for spectrum in spectra
            for name, part in (("density", "density_moments"), ("signs", "moments"))
            if (found := spectrum.get(part))
        ],
        "layers": [
            {
                "task": spectrum["task"],
                "layer": number,
                "name": block["layer"],
                **{key: block[key] for key in TABLES["layers"][3:]},
            }
            for spectrum in spectra
            for number, block in enumerate(spectrum.get("blocks", ()), start=1)
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


def _pairs(eigenspectrum: Mapping[str, Any], part: str, moment: str) -> TableRows:
    """The rows of the eigenvalues of several tasks, all taken at one moment of the stream."""
    return [
        {
            "task": spectrum["task"],
            "rank": rank + 1,
            "eigenvalue": value,
            "relative_residual": spectrum["relative_residuals"][rank],
            "converged": spectrum["converged"][rank],
            "moment": moment,
            "matrix": eigenspectrum.get("matrix", "hessian"),
            "images": eigenspectrum["images"],
            "examples": spectrum["examples"],
        }
        for spectrum in eigenspectrum.get(part, ())
        for rank, value in enumerate(spectrum["eigenvalues"])
    ]


def _movement(task: int, moved: Mapping[str, Any], train: Mapping[str, Any]) -> dict[str, Any]:
    """How far the weights have moved since a task was learnt, and what the task has lost since in accuracy and loss."""
    later = moved["task"]
    return {
        "task": task,
        "tasks_learnt": later,
        "distance": moved["distance"],
        "overlap": moved["overlap"],
        "lambda_distance_squared": moved.get("lambda_distance_squared", math.nan),
        "forgetting": round(train["accuracy"][task][task - 1] - train["accuracy"][later][task - 1], 6),
        "loss_rise": round(train["test_loss"][later][task - 1] - train["test_loss"][task][task - 1], 6),
    }


def _prediction(task: int, moved: Mapping[str, Any]) -> dict[str, Any]:
    """What the quadratic model predicts of a task's loss, beside what came."""
    losses = np.array(moved["line_loss"])
    straight = np.linspace(losses[0], losses[-1], len(losses))
    return {
        "task": task,
        "tasks_learnt": moved["task"],
        "gradient_term": moved["gradient_term"],
        "quadratic_term": moved["quadratic_term"],
        "predicted_rise": round(moved["gradient_term"] + moved["quadratic_term"], 6),
        "bound": round(moved.get("lambda_distance_squared", math.nan) / 2, 6),
        "rise": round(float(losses[-1] - losses[0]), 6),
        "barrier": round(float((losses - straight).max()), 6),
    }


def _line(task: int, moved: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Loss and accuracy along one line, and the quadratic model there."""
    losses = moved["line_loss"]
    for point, (loss, accuracy) in enumerate(zip(losses, moved["line_accuracy"], strict=True)):
        share = point / (len(losses) - 1)
        model = losses[0] + share * moved["gradient_term"] + share**2 * moved["quadratic_term"]
        yield {
            "task": task,
            "tasks_learnt": moved["task"],
            "position": round(share, 4),
            "loss": loss,
            "accuracy": accuracy,
            "model": round(model, 6),
        }
