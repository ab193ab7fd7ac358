"""ER: experience replay from a reservoir or a ring (Chaudhry et al. 2019, arXiv 1902.10486)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.strategies import ERSettings
from pipeline.models import TaskModel
from pipeline.strategies.batch import Batch, Stream, cross_entropy, joined
from pipeline.strategies.memory import Memory, Reservoir, Ring
from pipeline.strategies.remembering import Remembering


class ER(Remembering[Memory]):
    """Experience replay: from the second task on, the loss of a random memory batch is added to that of the batch.

        g + the gradient of the memory batch's loss

    The memory has `memory_per_class` slots for each class of each task. With `memory: reservoir` it is an even sample of
    all examples so far, with `memory: ring` it holds the last examples of each class, and only those of earlier tasks are
    drawn. Every batch is offered to it once its gradient was computed. The memory batch has `memory_batch` examples, or
    as many as the batch. It goes through the network in a separate pass, so that batch normalisation does not mix the
    two; with `one_pass` both go through it together, and the gradient is that of the mean loss over all their examples. A
    reservoir is then replayed from the second step of the stream on, within the first task too, as the paper's code does.

    Args:
        plan: The settings.
        stream: What the strategy needs to know of the stream.
    """

    plan: ERSettings

    def __init__(self, plan: ERSettings, stream: Stream) -> None:
        super().__init__(plan, stream, memory_of(plan, stream))

    def backward(self, model: TaskModel, batch: Batch) -> Tensor:
        """Leave the gradient of the two losses in `.grad`, and offer the batch to the memory.

        Args:
            model: The network.
            batch: The examples of this step.

        Returns:
            The loss of the batch alone, detached.

        Raises:
            ValueError: if the batch is of another task than the one begun.
        """
        self.refuse_other_tasks(batch)
        if self.plan.one_pass and self._recalls_in_one_pass:
            both = joined(batch, self.recall())
            losses = F.cross_entropy(model(both.images, both.task), both.labels, reduction="none")
            torch.autograd.backward(losses.mean())
            loss = losses[: len(batch.labels)].mean()
        else:
            loss = cross_entropy(model, batch)
            torch.autograd.backward(loss)
            if self.has_earlier and not self.plan.one_pass:
                torch.autograd.backward(cross_entropy(model, self.recall()))
        self.memory.add(batch)
        return loss.detach()

    @property
    def _recalls_in_one_pass(self) -> bool:
        return self.memory.seen > 0 if isinstance(self.memory, Reservoir) else self.has_earlier


def memory_of(plan: ERSettings, stream: Stream) -> Memory:
    """The memory that the settings name, with `memory_per_class` slots for each class of each task."""
    if plan.memory == "ring":
        return Ring(plan.memory_per_class, stream.classes, stream.generator)
    return Reservoir(plan.memory_per_class * sum(len(outputs) for outputs in stream.classes), stream.generator)
