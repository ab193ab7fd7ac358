"""A-GEM: averaged gradient episodic memory (Chaudhry et al. 2019, arXiv 1812.00420)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.config.strategies import AGEMSettings
from pipeline.models import TaskModel
from pipeline.strategies import published
from pipeline.strategies.batch import Batch, Stream, cross_entropy, trained
from pipeline.strategies.memory import Ring
from pipeline.strategies.remembering import Remembering


class AGEM(Remembering[Ring]):
    """The gradient, projected if it conflicts with that of a random memory batch over all earlier tasks.

        g - (g . r / r . r) r  where g . r < 0, else g     (A-GEM, eq. 11)

    The memory is a ring of the last `memory_per_class` examples of each class of each task. The memory batch, whose
    gradient is r, has `memory_batch` examples, or as many as the batch. For the setting `extra_forward` see
    `pipeline.strategies.published.extra_forward`.

    Args:
        plan: The settings.
        stream: What the strategy needs to know of the stream.
    """

    plan: AGEMSettings

    def __init__(self, plan: AGEMSettings, stream: Stream) -> None:
        super().__init__(plan, stream, Ring(plan.memory_per_class, stream.classes, stream.generator))

    def backward(self, model: TaskModel, batch: Batch) -> Tensor:
        """Leave the projected gradient in `.grad` (on the first task the plain one), and add the batch to the memory.

        Args:
            model: The network.
            batch: The examples of this step.

        Returns:
            The loss of the batch alone, detached.
        """
        if self.plan.extra_forward:
            published.extra_forward(model, batch)
        reference: Sequence[Tensor | None] = []
        if self.task > 0:
            remembered = cross_entropy(model, self.recall())
            reference = torch.autograd.grad(remembered, trained(model), allow_unused=True)
        loss = cross_entropy(model, batch)
        torch.autograd.backward(loss)
        pairs = [(p, p.grad, r) for p, r in zip(trained(model), reference, strict=False)]
        both = [(p, g, r) for p, g, r in pairs if g is not None and r is not None]
        projected = project([g for _, g, _ in both], [r for _, _, r in both]) if both else []
        for (parameter, _, _), gradient in zip(both, projected, strict=True):
            parameter.grad = gradient
        self.memory.add(batch)
        return loss.detach()


def project(gradient: Sequence[Tensor], reference: Sequence[Tensor]) -> list[Tensor]:
    """The nearest gradient that does not increase the memory batch's loss, to first order.

        g - (g . r / r . r) r  where g . r < 0, else g     (A-GEM, eq. 11)

    It is computed without a branch, so that a GPU does not wait for the host. If r is zero, g is returned unchanged.

    Args:
        gradient: g, tensors that together make one vector.
        reference: r, tensors of the same shapes.

    Returns:
        The projected gradient, tensors of the same shapes.
    """
    product = torch.stack([torch.dot(g.flatten(), r.flatten()) for g, r in zip(gradient, reference, strict=True)]).sum()
    square = torch.stack([torch.dot(r.flatten(), r.flatten()) for r in reference]).sum()
    share = (product.clamp_max(0) / square.clamp_min(torch.finfo(square.dtype).tiny)).to(square.dtype)
    return [g - share * r for g, r in zip(gradient, reference, strict=True)]
