"""The matrices whose curvature is computed: of the mean cross-entropy of some examples of one task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from pipeline.curvature import FisherOperator, GaussNewtonOperator, HessianOperator
from pipeline.models import TaskModel, TaskTensors

#: What `eigenspectrum.matrix` may name.
CurvatureOperator = HessianOperator | GaussNewtonOperator | FisherOperator


def operator_of(
    model: TaskModel,
    examples: TaskTensors,
    matrix: Literal["hessian", "gauss-newton", "fisher"],
    memory: int,
    parameters: Iterable[Tensor] | None = None,
) -> CurvatureOperator:
    """Build a matrix of the mean cross-entropy (nats) of some examples of one task, at the present weights.

    Args:
        model: The network.
        examples: The examples.
        matrix: Which one.
        memory: Bytes that its retained graphs may take together.
        parameters: Those that the matrix is over; None: all of the model.
    """

    def outputs(images: Tensor, labels: Tensor) -> Tensor:
        logits: Tensor = model(images, examples.task)
        return logits

    def loss_of_outputs(logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels)

    over = model.parameters() if parameters is None else parameters
    batches = [(examples.images, examples.labels)]
    if matrix == "gauss-newton":
        return GaussNewtonOperator(outputs, loss_of_outputs, over, batches, memory=memory)
    if matrix == "fisher":
        return FisherOperator(outputs, loss_of_outputs, over, batches, memory=memory)
    return HessianOperator(loss_of(model, examples), over, batches, memory=memory)


def gradient_of(operator: CurvatureOperator, model: TaskModel, examples: TaskTensors, memory: int) -> Tensor:
    """Compute the gradient of the mean cross-entropy of examples at the present weights, those of the operator.

    Args:
        operator: A matrix of that loss; the graphs that it retains are released if they are not the gradient's own.
        model: The network.
        examples: The examples.
        memory: Bytes that retained graphs may take together.

    Returns:
        (n,) float64.
    """
    if isinstance(operator, HessianOperator):
        return operator.gradient().double()
    batches = [(examples.images, examples.labels)]
    with operator.released():
        hessian = HessianOperator(loss_of(model, examples), model.parameters(), batches, retain=False, memory=memory)
        return hessian.gradient().double()


def loss_of(model: TaskModel, examples: TaskTensors) -> Callable[[Tensor, Tensor], Tensor]:
    """The mean cross-entropy of a batch of examples of one task, as a function of images and labels."""

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(model(images, examples.task), labels)

    return loss
