"""The learning rate of Stable SGD."""

from __future__ import annotations


def stable_lr(lr: float, decay: float, task: int, floor: float = 5e-5) -> float:
    """Compute the learning rate of Stable SGD on one task.

        max(lr * decay^task, min(lr, floor))

    The first task already has lr * decay. The floor never raises the rate above lr.

    Source: Mirzadeh et al., NeurIPS 2020, section 5; arXiv 2006.06958. The floor is that of the authors' code.

    Args:
        lr: Learning rate before decay.
        decay: Factor of the learning rate per task, in (0, 1].
        task: Number of the task, from 1.
        floor: Lower bound of the rate.

    Raises:
        ValueError: if an argument is out of its range.
    """
    if not lr > 0 or not floor >= 0:
        raise ValueError(f"lr must be above 0 and floor at least 0, got {lr!r} and {floor!r}")
    if not 0 < decay <= 1:
        raise ValueError(f"decay must be in (0, 1], got {decay!r}")
    if task < 1:
        raise ValueError(f"task counts from 1, got {task!r}")
    return max(lr * decay**task, min(lr, floor))
