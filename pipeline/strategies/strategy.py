"""The interface of every strategy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from pipeline.config.strategies import StrategySettings
from pipeline.models import TaskModel, TaskTensors
from pipeline.strategies.batch import Batch, Stream


class Strategy(ABC):
    """What a method adds to the gradient or to the data. A strategy says what its gradient is, and overrides what it needs.

    For each visit to a task, the training loop calls `begin_task` once, `backward` and `after_step` for every batch, and
    `end_task` once. The two arguments are kept as attributes of the same names.

    Tasks may come in any order, and again. The earlier tasks are all that were begun before (for `LwF`, ended) but the
    present one, whatever their numbers: on a second visit to task 0, task 1 is an earlier one. Strategies with a penalty
    take each visit as a task of its own; only EWC's `fisher: published` takes the task of the next number for the next.

    Args:
        plan: The settings of the strategy.
        stream: What the strategy needs to know of the stream.
    """

    #: Whether the examples of all tasks are mixed into one long task, cut into as many parts as there are tasks.
    joint: ClassVar[bool] = False

    def __init__(self, plan: StrategySettings, stream: Stream) -> None:
        self.plan, self.stream = plan, stream

    @abstractmethod
    def backward(self, model: TaskModel, batch: Batch) -> Tensor:
        """Leave in `.grad` the gradient that the update rule applies.

        Args:
            model: The network; its gradients are empty on entry.
            batch: The examples of this step.

        Returns:
            The loss of the batch, detached.
        """

    def visits(self, task: int, tasks: int) -> list[int]:
        """The tasks to train on, in order, before the row of the accuracy matrix for `task` is taken.

        Args:
            task: The number of the task, from 0.
            tasks: Number of tasks in the stream.

        Returns:
            The numbers of the tasks to visit, from 0; here `task` alone.
        """
        return [task]

    def begin_task(self, task: TaskTensors) -> None:
        """Prepare for a task; called before its first step. Does nothing here.

        Args:
            task: The training data of the task.
        """

    def after_step(self, model: TaskModel) -> None:
        """Take what the strategy needs from a step; called right after the update rule's. Does nothing here.

        Args:
            model: The network, with the weights after the step and the gradients that the update rule was given.
        """

    def end_task(self, model: TaskModel, task: TaskTensors) -> None:
        """Take what the strategy needs from a task; called after its last step. Does nothing here.

        Args:
            model: The network.
            task: The training data of the task.
        """

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs of the strategy.

        Returns:
            Tensors, numbers and strings in plain containers; empty here.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
