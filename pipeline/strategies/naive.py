"""Plain fine-tuning: the gradient of the batch's loss, nothing more. Also the interface of every strategy."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.models import TaskModel, TaskTensors


class Batch(NamedTuple):
    """images: (n, [channels,] height, width) float. labels: (n,) int64. task: its number from 0, or (n,) int64."""

    images: Tensor
    labels: Tensor
    task: int | Tensor


class Naive:
    """The base of every strategy; each overrides what it changes."""

    def begin_task(self, task: TaskTensors) -> None:
        """Called with the training data of a task before its first step."""

    def backward(self, model: TaskModel, batch: Batch) -> Tensor:
        """Leave in `.grad` the gradient to apply (gradients are empty on entry); return the batch's loss, detached."""
        loss = F.cross_entropy(model(batch.images, batch.task), batch.labels)
        torch.autograd.backward(loss)
        return loss.detach()

    def end_task(self, model: TaskModel, task: TaskTensors) -> None:
        """Called with the training data of a task after its last step."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that must survive a stop."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
