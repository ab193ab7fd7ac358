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
    """From the second task on the loss of a random memory batch is added; then the batch is offered to the reservoir.

    The reservoir has `memory_per_class` slots for each class of each task. The memory batch, as large as the batch, is a
    pass of its own, because batch normalisation must not mix the two.
    """

    def __init__(self, plan: ERSettings, stream: Stream) -> None:
        size = plan.memory_per_class * sum(len(outputs) for outputs in stream.classes)
        super().__init__(plan, stream, Reservoir(size, stream.generator))

    def backward(self, model: TaskModel, batch: Batch) -> Tensor:
        """The gradient of the batch's loss and of the memory batch's."""
        loss = cross_entropy(model, batch)
        torch.autograd.backward(loss)
        if self.task > 0:
            torch.autograd.backward(cross_entropy(model, self.memory.sample(self.stream.batch_size)))
        self.memory.add(batch)
        return loss.detach()
