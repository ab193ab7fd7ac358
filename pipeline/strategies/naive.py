"""Plain fine-tuning: the gradient of the batch's loss, nothing more. Also the interface of every strategy."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from pipeline.config.strategies import StrategySettings
from pipeline.models import TaskModel, TaskTensors
from pipeline.strategies.batch import Batch, Stream, cross_entropy


class Naive:
    """The base of every strategy; each overrides what it changes.

    plan: its settings. stream: what it must know of the stream.
    """

    #: True where the examples of all tasks come mixed, as one long task cut into as many parts as there are tasks.
    joint: ClassVar[bool] = False

    def __init__(self, plan: StrategySettings, stream: Stream) -> None:
        self.plan, self.stream = plan, stream

    def visits(self, task: int, tasks: int) -> list[int]:
        """The tasks to train on, in order, before the row of the accuracy matrix for `task` is taken. From 0."""
        return [task]

    def begin_task(self, task: TaskTensors) -> None:
        """Called with the training data of a task before its first step."""

    def backward(self, model: TaskModel, batch: Batch) -> Tensor:
        """Leave in `.grad` the gradient to apply (gradients are empty on entry); return the batch's loss, detached."""
        loss = cross_entropy(model, batch)
        torch.autograd.backward(loss)
        return loss.detach()

    def end_task(self, model: TaskModel, task: TaskTensors) -> None:
        """Called with the training data of a task after its last step."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that must survive a stop."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
