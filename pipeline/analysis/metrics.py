"""The metrics of continual learning, pure functions of the accuracy matrix.

a: (T + 1, T) accuracies as fractions; a[i, j] is the accuracy on task j (column j - 1) after training task i; row 0 is
the untrained network. NaN (or None) stands where a task was not evaluated: tasks that are neither learnt nor the next one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Rows = Matrix | Sequence[Sequence[float | None]]


def _checked(a: Rows, least: int) -> Matrix:
    matrix = np.asarray(a, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] + 1:
        raise ValueError(f"the accuracy matrix must be (T + 1, T), is {matrix.shape}")
    if matrix.shape[1] < least:
        raise ValueError(f"needs at least {least} tasks, has {matrix.shape[1]}")
    return matrix


def average_accuracy(a: Rows) -> float:
    """Mean accuracy over all tasks after the last: A = mean_j a[T, j]     (Lopez-Paz and Ranzato 2017, ACC)."""
    return float(_checked(a, 1)[-1].mean())


def average_accuracy_course(a: Rows) -> Matrix:
    """A_i = mean_{j<=i} a[i, j] for i = 1..T: the average accuracy of the tasks learnt so far. Returns (T,)."""
    matrix = _checked(a, 1)
    return np.array([matrix[i, :i].mean() for i in range(1, len(matrix))])


def forgetting(a: Rows) -> float:
    """Mean drop from a task's best earlier accuracy to its last one.

    F = mean_{j<T} ( max_{1<=i<T} a[i, j] - a[T, j] )     (Chaudhry et al. 2018, eq. 3)

    Raises ValueError where T < 2.
    """
    matrix = _checked(a, 2)
    return float((np.nanmax(matrix[1:-1, :-1], axis=0) - matrix[-1, :-1]).mean())


def forgetting_paper(a: Rows) -> float:
    """`forgetting` with the maximum over all rows, the last included, so never negative: as the code of TAG and of
    Stable SGD counts it. Raises ValueError where T < 2."""
    matrix = _checked(a, 2)
    return float((np.nanmax(matrix[1:, :-1], axis=0) - matrix[-1, :-1]).mean())


def backward_transfer(a: Rows) -> float:
    """BWT = mean_{j<T} ( a[T, j] - a[j, j] )     (Lopez-Paz and Ranzato 2017). Raises ValueError where T < 2."""
    matrix = _checked(a, 2)
    return float((matrix[-1, :-1] - np.diagonal(matrix[1:])[:-1]).mean())


def forward_transfer(a: Rows) -> float:
    """FWT = mean_{j>1} ( a[j - 1, j] - a[0, j] )     (Lopez-Paz and Ranzato 2017). Raises ValueError where T < 2."""
    matrix = _checked(a, 2)
    tasks = np.arange(1, matrix.shape[1])
    return float((matrix[tasks, tasks] - matrix[0, tasks]).mean())


def learning_accuracy(a: Rows) -> float:
    """LA = mean_j a[j, j]: accuracy on each task right after learning it     (Riemer et al. 2019)."""
    return float(np.diagonal(_checked(a, 1)[1:]).mean())


def all_metrics(a: Rows) -> dict[str, float]:
    """Every metric by name. With a single task only those that a single task has."""
    matrix = _checked(a, 1)
    metrics = {"average_accuracy": average_accuracy(matrix), "learning_accuracy": learning_accuracy(matrix)}
    if matrix.shape[1] > 1:
        metrics |= {
            "forgetting": forgetting(matrix),
            "forgetting_paper": forgetting_paper(matrix),
            "backward_transfer": backward_transfer(matrix),
            "forward_transfer": forward_transfer(matrix),
        }
    return metrics
