"""The one hook of update rules that need to know of tasks."""

from __future__ import annotations

import torch


def begin_task(optimizer: torch.optim.Optimizer) -> None:
    """Tell an update rule that the next task begins, if it has a method `begin_task`, as TAG has; others need not know."""
    hook = getattr(optimizer, "begin_task", None)
    if hook is not None:
        hook()
