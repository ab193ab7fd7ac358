"""Multi-task learning, the upper bound: all tasks' examples are at hand from the start."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.config.strategies import MultitaskPassesSettings
from pipeline.strategies.batch import Stream
from pipeline.strategies.naive import Naive


class Multitask(Naive):
    """Joint batches: the examples of all tasks mixed, each with its own task's outputs; as many steps as any method."""

    joint: ClassVar[bool] = True


class MultitaskPasses(Naive):
    """What the published experiments call multi-task: `passes` passes over the tasks in sequence, not joint batches.

    The rows of the accuracy matrix are taken in the last pass. `visits`, as in an earlier version of TAG's code: instead, so
    many visits of tasks drawn evenly with replacement, the rows taken at even distances; learning accuracy then means little.
    """

    plan: MultitaskPassesSettings

    def __init__(self, plan: MultitaskPassesSettings, stream: Stream) -> None:
        super().__init__(plan, stream)
        tasks = len(stream.classes)
        drawn = stream.generator.integers(0, tasks, plan.visits or 0)
        self.drawn = [[int(task) for task in part] for part in np.array_split(drawn, tasks)]

    def visits(self, task: int, tasks: int) -> list[int]:
        """All passes but the last come before the first row."""
        if self.plan.visits:
            return self.drawn[task]
        earlier = list(range(tasks)) * ((self.plan.passes or 1) - 1) if task == 0 else []
        return [*earlier, task]
