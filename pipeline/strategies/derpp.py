"""DER++: dark experience replay with labels (Buzzega et al. 2020, arXiv 2004.07211)."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.config.strategies import DERppSettings
from pipeline.models import TaskModel
from pipeline.models.heads import MASKED
from pipeline.strategies.batch import Batch, Stream, cross_entropy, cross_entropy_of
from pipeline.strategies.memory import LogitReservoir
from pipeline.strategies.remembering import Remembering


class DERpp(Remembering[LogitReservoir]):
    """Replay that also holds the outputs of past examples at what they were when the example was learnt.

        L + alpha mean (z' - h(x'))^2 + beta CE(y'', h(x''))     (DER++, eq. 6)

    L is the loss of the batch and h(x) the logits of the network. x' with z' and x'' with y'' are two independent draws
    from a reservoir with `memory_per_class` slots for each class of each task, each of `memory_batch` examples, or of as
    many as the batch has; z' are the logits that the network gave when x' was learnt. The mean of the squares is over the
    examples and, for each of them, over the outputs of its own task (in the paper's equation a sum, in its code a mean
    over all outputs). There is a memory from the second step of the run on,
    within the first task too, as in the paper. The three batches go through the network in passes of their own.

    Args:
        plan: The settings.
        stream: What the strategy needs to know of the stream.
    """

    plan: DERppSettings

    def __init__(self, plan: DERppSettings, stream: Stream) -> None:
        size = plan.memory_per_class * sum(len(outputs) for outputs in stream.classes)
        super().__init__(plan, stream, LogitReservoir(size, stream.generator))

    def backward(self, model: TaskModel, batch: Batch) -> Tensor:
        """Leave the gradient of the three losses in `.grad`, and offer the batch with its logits to the reservoir.

        Args:
            model: The network.
            batch: The examples of this step.

        Returns:
            The loss of the batch alone, detached.

        Raises:
            ValueError: if the batch is of another task than the one begun.
        """
        self.refuse_other_tasks(batch)
        logits = model(batch.images, batch.task)
        loss = cross_entropy_of(logits, batch)
        torch.autograd.backward(loss)
        if self.memory.seen:
            first, then = self.memory.sample_with_logits(self.recalled)
            distance = squared_distance(model(first.images, first.task), then)
            torch.autograd.backward(self.plan.derpp_alpha * distance)
            torch.autograd.backward(self.plan.derpp_beta * cross_entropy(model, self.recall()))
        self.memory.add_with_logits(batch, logits.detach())
        return loss.detach()


def squared_distance(now: Tensor, then: Tensor) -> Tensor:
    """The mean squared distance of logits, over the outputs that are not masked.

    Args:
        now: (n, outputs) logits with a graph, `MASKED` at the outputs of other tasks.
        then: (n, outputs) what they were, masked alike.

    Returns:
        A scalar with a graph.
    """
    own = then > MASKED / 2
    # Where both are masked the difference is exactly 0, and so is its gradient: only the count needs the mask.
    return (now - then).square().sum() / own.sum()
