"""The hook for update rules that need to know where a task begins."""

from __future__ import annotations

import torch


def begin_task(optimizer: torch.optim.Optimizer) -> None:
    """Announce the next task to an optimizer, before its first step on that task.

    Calls the optimizer's own method `begin_task`, as TAG has it; does nothing for an optimizer without one.
    """
    hook = getattr(optimizer, "begin_task", None)
    if hook is not None:
        hook()
