"""A-GEM: averaged gradient episodic memory (Chaudhry et al. 2019, arXiv 1812.00420)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.config.plan import StrategyPlan
from pipeline.models import TaskModel, TaskTensors
from pipeline.strategies.batch import Batch, Stream, cross_entropy
from pipeline.strategies.memory import Ring
from pipeline.strategies.remembering import Remembering


def project(gradient: Sequence[Tensor], reference: Sequence[Tensor]) -> list[Tensor]:
    """The nearest gradient that does not raise the memory's loss to first order     (A-GEM, eq. 11).

    g - (g . r / r . r) r where g . r < 0, else g. gradient, reference: tensors of equal shapes. Without a branch, so that
    a GPU need not wait; a reference of zeros leaves the gradient as it is.
    """
    product = torch.stack(
        [torch.vdot(g.flatten(), r.flatten()) for g, r in zip(gradient, reference, strict=True)]
    ).sum()
    square = torch.stack([torch.vdot(r.flatten(), r.flatten()) for r in reference]).sum()
    share = (product.clamp_max(0) / square.clamp_min(torch.finfo(square.dtype).tiny)).to(square.dtype)
    return [g - share * r for g, r in zip(gradient, reference, strict=True)]


class AGEM(Remembering[Ring]):
    """The gradient, projected where it conflicts with that of a random memory batch over all earlier tasks.

    The memory is a ring of the last `memory_per_class` examples of each class; the memory batch is as large as the batch.
    """

    def __init__(self, plan: StrategyPlan, stream: Stream) -> None:
        super().__init__(plan, stream, Ring(plan.memory_per_class or 1, stream.classes, stream.generator))

    def begin_task(self, task: TaskTensors) -> None:
        """Set which tasks are earlier ones."""
        super().begin_task(task)
        self.memory.begin_task(task.task, task.labels.device)

    def backward(self, model: TaskModel, batch: Batch) -> Tensor:
        """The projected gradient; on the first task the plain one."""
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        reference: list[Tensor | None] = []
        if self.task > 0:
            torch.autograd.backward(cross_entropy(model, self.memory.sample(self.stream.batch_size)))
            reference = [parameter.grad for parameter in parameters]
            for parameter in parameters:
                parameter.grad = None
        loss = cross_entropy(model, batch)
        torch.autograd.backward(loss)
        both = [
            (parameter, parameter.grad, r)
            for parameter, r in zip(parameters, reference, strict=False)
            if parameter.grad is not None and r is not None
        ]
        if both:
            for (parameter, _, _), g in zip(
                both, project([g for _, g, _ in both], [r for _, _, r in both]), strict=True
            ):
                parameter.grad = g
        self.memory.add(batch)
        return loss.detach()
