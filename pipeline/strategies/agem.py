"""A-GEM: averaged gradient episodic memory (Chaudhry et al. 2019, arXiv 1812.00420)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.config.strategies import AGEMSettings
from pipeline.models import TaskModel, TaskTensors
from pipeline.strategies import published
from pipeline.strategies.batch import Batch, Stream, cross_entropy, trained
from pipeline.strategies.memory import Ring
from pipeline.strategies.remembering import Remembering


class AGEM(Remembering[Ring]):
    """The gradient, projected where it conflicts with that of a random memory batch over all earlier tasks.

    The memory is a ring of the last `memory_per_class` examples of each class; the memory batch is as large as the batch.
    `extra_forward`: see `pipeline.strategies.published.extra_forward`.
    """

    plan: AGEMSettings

    def __init__(self, plan: AGEMSettings, stream: Stream) -> None:
        super().__init__(plan, stream, Ring(plan.memory_per_class, stream.classes, stream.generator))

    def begin_task(self, task: TaskTensors) -> None:
        """Set which tasks are earlier ones."""
        super().begin_task(task)
        self.memory.begin_task(task.task, task.labels.device)

    def backward(self, model: TaskModel, batch: Batch) -> Tensor:
        """Leave the projected gradient; on the first task the plain one."""
        if self.plan.extra_forward:
            published.extra_forward(model, batch)
        reference: Sequence[Tensor | None] = []
        if self.task > 0:
            remembered = cross_entropy(model, self.memory.sample(self.stream.batch_size))
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
    """The nearest gradient that does not raise the memory's loss to first order.

    g - (g . r / r . r) r where g . r < 0, else g     (A-GEM, eq. 11)

    Without a branch, so that a GPU need not wait; a reference of zeros leaves the gradient as it is.

    Args:
        gradient: g, tensors that together make one vector.
        reference: r, tensors of the same shapes.

    Returns:
        Tensors of the same shapes.
    """
    product = torch.stack(
        [torch.vdot(g.flatten(), r.flatten()) for g, r in zip(gradient, reference, strict=True)]
    ).sum()
    square = torch.stack([torch.vdot(r.flatten(), r.flatten()) for r in reference]).sum()
    share = (product.clamp_max(0) / square.clamp_min(torch.finfo(square.dtype).tiny)).to(square.dtype)
    return [g - share * r for g, r in zip(gradient, reference, strict=True)]
