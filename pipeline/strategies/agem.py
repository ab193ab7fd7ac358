"""A-GEM: averaged gradient episodic memory (Chaudhry et al. 2019, arXiv 1812.00420)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

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

    `extra_forward`: TAG's code sends the batch through the network once more, before the memory batch. All that this changes
    is the running statistics of batch normalisation, in which the present task then counts twice as much as the earlier ones.
    Here it costs nothing: two passes take the shares that three would have.
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
        present: Share | None = None
        if self.plan.extra_forward:
            present = _twice_around_another if self.task > 0 else _twice
        if self.task > 0:
            with _share(model, _between if self.plan.extra_forward else None):
                torch.autograd.backward(cross_entropy(model, self.memory.sample(self.stream.batch_size)))
            reference = [parameter.grad for parameter in parameters]
            for parameter in parameters:
                parameter.grad = None
        with _share(model, present):
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


#: From the momentum of batch normalisation, the share of a batch in the running statistics, to another share.
Share = Callable[[float], float]


def _twice(momentum: float) -> float:
    """Of a batch that passes twice in a row."""
    return 1 - (1 - momentum) ** 2


def _twice_around_another(momentum: float) -> float:
    """Of a batch that passes before another and after it: momentum now, and momentum (1 - momentum)^2 from the first time."""
    return momentum + momentum * (1 - momentum) ** 2


def _between(momentum: float) -> float:
    """Of that other batch, before `_twice_around_another` takes its share: momentum (1 - momentum) must be left of it."""
    return momentum * (1 - momentum) / (1 - _twice_around_another(momentum))


@contextmanager
def _share(model: TaskModel, share: Share | None) -> Iterator[None]:
    """Batch normalisation takes another share of a batch into its running statistics; None: its own."""
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)] if share else []
    before = [layer.momentum for layer in layers]
    for layer, momentum in zip(layers, before, strict=True):
        layer.momentum = share(momentum) if share and momentum is not None else momentum
    try:
        yield
    finally:
        for layer, momentum in zip(layers, before, strict=True):
            layer.momentum = momentum
