"""Plain fine-tuning on the gradient of the batch's loss."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.models import TaskModel
from pipeline.strategies.batch import Batch, cross_entropy
from pipeline.strategies.strategy import Strategy


class Naive(Strategy):
    """Plain fine-tuning: the gradient is that of the batch's loss.

    Args:
        plan: The settings of the strategy.
        stream: What the strategy needs to know of the stream.
    """

    def backward(self, model: TaskModel, batch: Batch) -> Tensor:
        """Leave the gradient of the batch's loss in `.grad`.

        Args:
            model: The network.
            batch: The examples of this step.

        Returns:
            The loss of the batch, detached.
        """
        loss = cross_entropy(model, batch)
        torch.autograd.backward(loss)
        return loss.detach()
