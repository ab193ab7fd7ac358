"""ER: experience replay from a reservoir (Chaudhry et al. 2019, arXiv 1902.10486)."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.config.strategies import ERSettings
from pipeline.models import TaskModel
from pipeline.strategies.batch import Batch, Stream, cross_entropy
from pipeline.strategies.memory import Reservoir
from pipeline.strategies.remembering import Remembering


class ER(Remembering[Reservoir]):
    """Experience replay: from the second task on, the loss of a random memory batch is added to that of the batch.

        g + the gradient of the memory batch's loss

    The reservoir has `memory_per_class` slots for each class of each task, and every batch is offered to it once its
    gradient was computed. The memory batch is as large as the batch. It goes through the network in a separate pass,
    because batch normalisation must not mix the two.

    Args:
        plan: the settings.
        stream: what the strategy needs to know of the stream.
    """

    def __init__(self, plan: ERSettings, stream: Stream) -> None:
        size = plan.memory_per_class * sum(len(outputs) for outputs in stream.classes)
        super().__init__(plan, stream, Reservoir(size, stream.generator))

    def backward(self, model: TaskModel, batch: Batch) -> Tensor:
        """Leave the gradient of the two losses in `.grad`, and offer the batch to the reservoir.

        Args:
            model: the network.
            batch: the examples of this step.

        Returns:
            The loss of the batch alone, detached.
        """
        loss = cross_entropy(model, batch)
        torch.autograd.backward(loss)
        if self.task > 0:
            torch.autograd.backward(cross_entropy(model, self.memory.sample(self.stream.batch_size)))
        self.memory.add(batch)
        return loss.detach()
