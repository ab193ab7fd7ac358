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
    gradient is r, has `memory_batch` examples, or as many as the batch. A gradient that one of the two lacks, as of a
    module that a task has to itself, is zero; where the batch lacks one, the host waits for a GPU in each step. For the
    setting `extra_forward` see `pipeline.strategies.published.extra_forward`.

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

        Raises:
            ValueError: if the batch is of another task than the one begun.
        """
        self.refuse_other_tasks(batch)
        if self.plan.extra_forward:
            published.extra_forward(model, batch)
        reference: Sequence[Tensor | None] = []
        if self.has_earlier:
            remembered = cross_entropy(model, self.recall())
            reference = torch.autograd.grad(remembered, trained(model), allow_unused=True)
        loss = cross_entropy(model, batch)
        torch.autograd.backward(loss)
        # Where r is missing, g adds nothing to the products, and stays as it is.
        used = [(p, r) for p, r in zip(trained(model), reference, strict=False) if r is not None]
        if used:
            _project(*zip(*used, strict=True))
        self.memory.add(batch)
        return loss.detach()


def _project(parameters: Sequence[Tensor], reference: Sequence[Tensor]) -> None:
    """Replace the gradients of parameters by the projected ones, if they conflict with the reference.

    A missing gradient counts as zero, and stays missing where there is no conflict: an update rule does nothing then, but
    goes on along its momentum for zeros. Only to know that, the host waits for a GPU.
    """
    gradient = [torch.zeros_like(r) if p.grad is None else p.grad for p, r in zip(parameters, reference, strict=True)]
    share = _share(gradient, reference)
    conflict = all(p.grad is not None for p in parameters) or bool(share < 0)
    for parameter, g, r in zip(parameters, gradient, reference, strict=True):
        if conflict or parameter.grad is not None:
            parameter.grad = g - share * r


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
    share = _share(gradient, reference)
    return [g - share * r for g, r in zip(gradient, reference, strict=True)]


def _share(gradient: Sequence[Tensor], reference: Sequence[Tensor]) -> Tensor:
    """g . r / r . r where g . r < 0, else zero."""
    product = torch.stack([torch.dot(g.flatten(), r.flatten()) for g, r in zip(gradient, reference, strict=True)]).sum()
    square = torch.stack([torch.dot(r.flatten(), r.flatten()) for r in reference]).sum()
    return (product.clamp_max(0) / square.clamp_min(torch.finfo(square.dtype).tiny)).to(square.dtype)
