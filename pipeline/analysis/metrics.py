"""The metrics of continual learning, as pure functions of the accuracy matrix of a run on T tasks.

In the formulas a[i, j] is the accuracy, a fraction, on task j (column j - 1) after training on task i; row 0 is the
untrained network. NaN (or None) stands for a task that was not evaluated because it was neither learnt nor next in the
stream. All functions raise ValueError if the matrix is not of shape (T + 1, T) with enough tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Rows = Matrix | Sequence[Sequence[float | None]]


def _checked(a: Rows, least: int) -> Matrix:
    """The matrix as an array. Raises ValueError if its shape is wrong or it has fewer than `least` tasks."""
    matrix = np.asarray(a, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] + 1:
        raise ValueError(f"the accuracy matrix must be (T + 1, T), is {matrix.shape}")
    if matrix.shape[1] < least:
        raise ValueError(f"needs at least {least} tasks, has {matrix.shape[1]}")
    return matrix


def average_accuracy(a: Rows) -> float:
    """Mean accuracy over all tasks at the end of the stream.

    A = mean_j a[T, j]     (Lopez-Paz and Ranzato 2017, ACC)

    Args:
        a: (T + 1, T) accuracies as fractions; row 0 is the untrained network.

    Raises:
        ValueError: if the matrix has another shape.
    """
    return float(_checked(a, 1)[-1].mean())


def average_accuracy_course(a: Rows) -> Matrix:
    """Average accuracy on the tasks learnt so far, after each task.

    A_i = mean_{j<=i} a[i, j] for i = 1..T

    Args:
        a: (T + 1, T) accuracies as fractions; row 0 is the untrained network.

    Returns:
        (T,) fractions, A_1 first.

    Raises:
        ValueError: if the matrix has another shape.
    """
    matrix = _checked(a, 1)
    return np.array([matrix[i, :i].mean() for i in range(1, len(matrix))])


def forgetting(a: Rows) -> float:
    """Mean drop from a task's best earlier accuracy to its last one.

    F = mean_{j<T} ( max_{1<=i<T} a[i, j] - a[T, j] )     (Chaudhry et al. 2018, eq. 3)

    Rows before a task's turn count where they were evaluated: multi-task learns it from the first row on.

    Args:
        a: (T + 1, T) accuracies as fractions; row 0 is the untrained network and is not counted.

    Returns:
        The mean over the tasks j < T, a fraction; negative if the last accuracies are the best.

    Raises:
        ValueError: if T < 2 or the matrix has another shape.
    """
    matrix = _checked(a, 2)
    return float((np.nanmax(matrix[1:-1, :-1], axis=0) - matrix[-1, :-1]).mean())


def forgetting_paper(a: Rows) -> float:
    """Forgetting as the code of TAG and of Stable SGD computes it.

    F = mean_{j<T} ( max_{1<=i<=T} a[i, j] - a[T, j] )

    The maximum includes the last row, unlike in `forgetting`, so the result is never negative.

    Args:
        a: (T + 1, T) accuracies as fractions; row 0 is the untrained network and is not counted.

    Returns:
        The mean over the tasks j < T, a fraction.

    Raises:
        ValueError: if T < 2 or the matrix has another shape.
    """
    matrix = _checked(a, 2)
    return float((np.nanmax(matrix[1:, :-1], axis=0) - matrix[-1, :-1]).mean())


def backward_transfer(a: Rows) -> float:
    """Backward transfer: mean change of a task's accuracy from right after learning it to the end of the stream.

    BWT = mean_{j<T} ( a[T, j] - a[j, j] )     (Lopez-Paz and Ranzato 2017)

    Args:
        a: (T + 1, T) accuracies as fractions; row 0 is the untrained network.

    Returns:
        The mean over the tasks j < T, a fraction; negative if tasks are forgotten.

    Raises:
        ValueError: if T < 2 or the matrix has another shape.
    """
    matrix = _checked(a, 2)
    return float((matrix[-1, :-1] - np.diagonal(matrix[1:])[:-1]).mean())


def forward_transfer(a: Rows) -> float:
    """Forward transfer: mean gain on a task, over the untrained network, from learning the tasks before it.

    FWT = mean_{j>1} ( a[j - 1, j] - a[0, j] )     (Lopez-Paz and Ranzato 2017)

    Args:
        a: (T + 1, T) accuracies as fractions; row 0 is the untrained network.

    Returns:
        The mean over the tasks j > 1, a fraction.

    Raises:
        ValueError: if T < 2 or the matrix has another shape.
    """
    matrix = _checked(a, 2)
    tasks = np.arange(1, matrix.shape[1])
    return float((matrix[tasks, tasks] - matrix[0, tasks]).mean())


def learning_accuracy(a: Rows) -> float:
    """Learning accuracy: mean accuracy on each task right after learning it.

    LA = mean_j a[j, j]     (Riemer et al. 2019)

    Args:
        a: (T + 1, T) accuracies as fractions; row 0 is the untrained network.

    Raises:
        ValueError: if the matrix has another shape.
    """
    return float(np.diagonal(_checked(a, 1)[1:]).mean())


def all_metrics(a: Rows) -> dict[str, float]:
    """Compute all metrics of an accuracy matrix.

    Args:
        a: (T + 1, T) accuracies as fractions; row 0 is the untrained network.

    Returns:
        The metrics by name. A single task has only average and learning accuracy, because the others need two.

    Raises:
        ValueError: if the matrix has another shape.
    """
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
