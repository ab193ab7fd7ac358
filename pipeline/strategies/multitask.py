"""Multi-task learning, the upper bound: the examples of all tasks are available from the start."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.config.strategies import MultitaskPassesSettings
from pipeline.strategies.batch import Stream
from pipeline.strategies.naive import Naive


class Multitask(Naive):
    """Joint batches, which mix the examples of all tasks; each example uses the outputs of its own task.

    It takes as many steps as a method that visits each task once, up to the rounding of incomplete batches.
    """

    joint: ClassVar[bool] = True


class MultitaskPasses(Naive):
    """What the published experiments call multi-task learning: passes over the tasks in sequence, not joint batches.

    With `passes`, the tasks are passed over that many times, and the rows of the accuracy matrix are taken in the last
    pass. With `visits` instead, as in an earlier version of TAG's code, that many tasks are drawn with equal
    probability and with replacement, and the rows are taken at even distances; learning accuracy then means little.

    Args:
        plan: The settings.
        stream: What the strategy needs to know of the stream.

    Attributes:
        drawn: For each row, the tasks drawn for `visits`; empty lists without them.
    """

    plan: MultitaskPassesSettings

    def __init__(self, plan: MultitaskPassesSettings, stream: Stream) -> None:
        super().__init__(plan, stream)
        tasks = len(stream.classes)
        drawn = stream.generator.integers(0, tasks, plan.visits or 0)
        self.drawn = [[int(task) for task in part] for part in np.array_split(drawn, tasks)]

    def visits(self, task: int, tasks: int) -> list[int]:
        """The tasks to train on, in order, before the row of the accuracy matrix for `task` is taken.

        All passes but the last come before the first row.

        Args:
            task: The number of the task after which the row is taken, from 0.
            tasks: Number of tasks in the stream.

        Returns:
            The numbers of the tasks, from 0, in order.
        """
        if self.plan.visits:
            return self.drawn[task]
        earlier = list(range(tasks)) * ((self.plan.passes or 1) - 1) if task == 0 else []
        return [*earlier, task]
