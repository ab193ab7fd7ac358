"""Multi-task learning, the upper bound: all tasks' examples are at hand from the start."""

from __future__ import annotations

from typing import ClassVar

from pipeline.strategies.naive import Naive


class Multitask(Naive):
    """Joint batches: the examples of all tasks mixed, each with its own task's outputs; as many steps as any method."""

    joint: ClassVar[bool] = True


class MultitaskPasses(Naive):
    """What the published experiments call multi-task: `passes` passes over the tasks in sequence, not joint batches.

    The rows of the accuracy matrix are taken in the last pass.
    """

    def visits(self, task: int, tasks: int) -> list[int]:
        """All passes but the last come before the first row."""
        earlier = list(range(tasks)) * ((self.plan.passes or 1) - 1) if task == 0 else []
        return [*earlier, task]
