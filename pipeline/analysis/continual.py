"""The metrics of continual evaluation, as pure functions of the accuracies of a run while it is trained on T tasks.

In the formulas c[t, n, i] is the accuracy, a fraction, on task i <= t at evaluation n of task t. There are N_t
evaluations of task t, in the order of its steps, the last one right after its last step. All functions raise ValueError
if a task has no evaluation, or an evaluation of task t does not have t accuracies.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

#: For each task t, its evaluations: (N_t, t) accuracies as fractions.
Course = Sequence[Sequence[Sequence[float]]]


def _checked(course: Course, least: int) -> list[NDArray[np.float64]]:
    """The evaluations of each task as an array. Raises ValueError if a shape is wrong or tasks are fewer than `least`."""
    tasks = [np.asarray(evaluations, dtype=np.float64) for evaluations in course]
    for task, evaluations in enumerate(tasks, start=1):
        if evaluations.ndim != 2 or not len(evaluations) or evaluations.shape[1] != task:
            raise ValueError(f"the evaluations of task {task} must be (n, {task}), are {evaluations.shape}")
    if len(tasks) < least:
        raise ValueError(f"needs at least {least} tasks, has {len(tasks)}")
    return tasks


def minimum_accuracies(course: Course) -> NDArray[np.float64]:
    """The worst accuracy of each task but the last, over all evaluations after it was learnt.

    m_i = min_{t>i, n} c[t, n, i]     (De Lange et al. 2023)

    Args:
        course: For each task t, its evaluations, (N_t, t) accuracies as fractions.

    Returns:
        (T - 1,) fractions, m_1 first.

    Raises:
        ValueError: if T < 2 or a shape is wrong.
    """
    tasks = _checked(course, 2)
    return np.array([min(later[:, i].min() for later in tasks[i + 1 :]) for i in range(len(tasks) - 1)])


def average_minimum_accuracy(course: Course) -> float:
    """Average minimum accuracy: how bad an earlier task ever was, on average.

    min-ACC = mean_{i<T} min_{t>i, n} c[t, n, i]     (De Lange et al. 2023)

    Args:
        course: For each task t, its evaluations, (N_t, t) accuracies as fractions.

    Raises:
        ValueError: if T < 2 or a shape is wrong.
    """
    return float(minimum_accuracies(course).mean())


def worst_case_accuracy(course: Course) -> float:
    """Worst-case accuracy: the last task as it is at the end, the earlier ones as they were at their worst.

    WC-ACC = c[T, N_T, T] / T + (1 - 1 / T) min-ACC     (De Lange et al. 2023)

    Args:
        course: For each task t, its evaluations, (N_t, t) accuracies as fractions.

    Returns:
        A fraction; with a single task its accuracy at the end.

    Raises:
        ValueError: if there is no task, or a shape is wrong.
    """
    tasks = _checked(course, 1)
    last, count = float(tasks[-1][-1, -1]), len(tasks)
    return last if count == 1 else last / count + (1 - 1 / count) * average_minimum_accuracy(course)


def stability_gap(course: Course) -> float:
    """Stability gap: how far an earlier task falls while another is learnt below what it has both before and after.

    G = mean_{i<t} ( min(c[t, 0, i], c[t, N_t, i]) - min_{0<=n<=N_t} c[t, n, i] )     c[t, 0, i] = c[t - 1, N_{t-1}, i]

    De Lange et al. (2023) describe this passing drop and give no number for it; this one is ours. Forgetting that stays
    is not part of it.

    Args:
        course: For each task t, its evaluations, (N_t, t) accuracies as fractions.

    Returns:
        The mean over all pairs of a task t and an earlier task i, a fraction; never negative.

    Raises:
        ValueError: if T < 2 or a shape is wrong.
    """
    tasks = _checked(course, 2)
    gaps = []
    for before, during in pairwise(tasks):
        start, worst = before[-1], during[:, :-1].min(axis=0)
        gaps.append(np.minimum(start, during[-1, :-1]) - np.minimum(start, worst))
    return float(np.concatenate(gaps).mean())


def average_anytime_accuracy(course: Course) -> float:
    """Average anytime accuracy: the mean over time of the average accuracy on the tasks so far, the current included.

    AAA = mean_{t, n} mean_{i<=t} c[t, n, i]     (Caccia et al. 2022)

    Args:
        course: For each task t, its evaluations, (N_t, t) accuracies as fractions.

    Returns:
        The mean over all evaluations of all tasks, a fraction.

    Raises:
        ValueError: if there is no task, or a shape is wrong.
    """
    return float(np.concatenate([evaluations.mean(axis=1) for evaluations in _checked(course, 1)]).mean())


def continual_metrics(course: Course) -> dict[str, float]:
    """Compute all metrics of continual evaluation.

    Args:
        course: For each task t, its evaluations, (N_t, t) accuracies as fractions.

    Returns:
        The metrics by name. A single task has only the average anytime and the worst-case accuracy, because the others
        need two.

    Raises:
        ValueError: if there is no task, or a shape is wrong.
    """
    metrics = {
        "average_anytime_accuracy": average_anytime_accuracy(course),
        "worst_case_accuracy": worst_case_accuracy(course),
    }
    if len(course) > 1:
        metrics |= {
            "average_minimum_accuracy": average_minimum_accuracy(course),
            "stability_gap": stability_gap(course),
        }
    return metrics
