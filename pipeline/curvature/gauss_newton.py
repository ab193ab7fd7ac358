"""The generalised Gauss-Newton matrix and the empirical Fisher information of a loss, by their products."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .batches import MEMORY, BatchOperator


@dataclass(frozen=True)
class Linearised:
    """What products with the Jacobian J of a network's outputs need.

    Attributes:
        outputs: z, (b, ...), with its graph.
        inner: u, of z's shape, where J^T u is taken.
        transposed: J^T u in pieces of the parameters' shapes, with its graph in u; None for an unused parameter.
        cut_outputs: z without its graph, but requiring a gradient.
        residual: d loss / d z at `cut_outputs`, (b, ...), with its graph.
    """

    outputs: Tensor
    inner: Tensor
    transposed: Sequence[Tensor | None]
    cut_outputs: Tensor
    residual: Tensor


class _OutputOperator(BatchOperator[Linearised]):
    """J^T M J for a matrix M in the space of the outputs, one product of J, M and J^T after the other.

    J v is taken by differentiating J^T u, which is linear in u, once more: with both graphs kept, a product costs two
    backward passes and no forward pass.
    """

    def __init__(
        self,
        outputs: Callable[..., Tensor],
        loss: Callable[..., Tensor],
        parameters: Iterable[Tensor],
        batches: Iterable[Sequence[Tensor]],
        retain: bool = True,
        memory: int = MEMORY,
        at_once: bool | None = None,
    ) -> None:
        self._outputs, self._loss = outputs, loss
        super().__init__(parameters, batches, retain, memory, at_once)

    @abstractmethod
    def _middle(self, graph: Linearised, image: Tensor, keep: bool, options: dict[str, Any]) -> Tensor:
        """M J v of a batch; image: J v, of the outputs' shape, or (m, *shape) for m vectors."""

    def _graph(self, batch: Sequence[Tensor]) -> Linearised:
        with torch.enable_grad():
            outputs = self._outputs(*batch)
            inner = torch.zeros_like(outputs, requires_grad=True)
            transposed = torch.autograd.grad(
                outputs, self._parameters, grad_outputs=inner, create_graph=True, allow_unused=True
            )
            cut = outputs.detach().requires_grad_()
            (residual,) = torch.autograd.grad(self._loss(cut, *batch), cut, create_graph=True)
        return Linearised(outputs, inner, transposed, cut, residual)

    def _times(
        self, graph: Linearised, pieces: Sequence[Tensor], keep: bool, options: dict[str, Any]
    ) -> Sequence[Tensor | None] | None:
        used = [(g, piece) for g, piece in zip(graph.transposed, pieces, strict=True) if g is not None]
        if not used:
            return None
        (image,) = torch.autograd.grad(
            [g for g, _ in used],
            graph.inner,
            grad_outputs=[piece for _, piece in used],
            retain_graph=True,  # the graph of the outputs is part of it
            **options,
        )
        return torch.autograd.grad(
            graph.outputs,
            self._parameters,
            grad_outputs=self._middle(graph, image, keep, options),
            retain_graph=keep,
            allow_unused=True,
            **options,
        )


class GaussNewtonOperator(_OutputOperator):
    """The generalised Gauss-Newton matrix of the mean loss over all examples, as a linear operator.

        G = 1/N sum_i J_i^T (d^2 loss_i / d z_i^2) J_i,    J_i = d z_i / d theta        (Schraudolph 2002)

    It is the Hessian without the curvature of the network itself: equal to it where the outputs are linear in the
    parameters, and positive semi-definite where the loss is convex in the outputs. For the cross-entropy of softmax
    outputs p the inner matrix is diag(p) - p p^T, and G is the Fisher information of the model (Martens 2014).

    Put the model into eval mode first; see :class:`pipeline.curvature.batches.BatchOperator` for memory.

    Args:
        outputs: Maps the tensors of a batch to the network's outputs z, (b, ...), example by example.
        loss: Maps z and the tensors of the batch to the mean loss over the batch.
        parameters: theta; those that require no gradient are left out.
        batches: Tuples of tensors with the examples along the first dimension.
        retain: Whether to keep graphs between products.
        memory: Bytes that all graphs may take together.
        at_once: Whether `matmat` takes all vectors through one pass; None: on any device but a CPU.

    Raises:
        ValueError: if no parameter requires a gradient, or if there is no batch.
    """

    def _middle(self, graph: Linearised, image: Tensor, keep: bool, options: dict[str, Any]) -> Tensor:
        if not graph.residual.requires_grad:
            return torch.zeros_like(image)  # a loss that is linear in the outputs
        (product,) = torch.autograd.grad(
            graph.residual, graph.cut_outputs, grad_outputs=image, retain_graph=keep, **options
        )
        return product


class FisherOperator(_OutputOperator):
    """The empirical Fisher information of the mean loss over all examples, as a linear operator.

        F = 1/N sum_i g_i g_i^T,    g_i = d loss_i / d theta

    with the labels of the data (for labels drawn from the model see :class:`GaussNewtonOperator`, which equals that
    Fisher information for cross-entropy). The gradients of the single examples are never formed:
    g_i^T v = r_i^T J_i v with r_i = d loss_i / d z_i.

    Args:
        outputs: Maps the tensors of a batch to the network's outputs z, (b, ...); no example may depend on another, so
            the model is in eval mode.
        loss: Maps z and the tensors of the batch to the mean loss over the batch.
        parameters: theta; those that require no gradient are left out.
        batches: Tuples of tensors with the examples along the first dimension.
        retain: Whether to keep graphs between products.
        memory: Bytes that all graphs may take together.
        at_once: Whether `matmat` takes all vectors through one pass; None: on any device but a CPU.

    Raises:
        ValueError: if no parameter requires a gradient, or if there is no batch.
    """

    def _middle(self, graph: Linearised, image: Tensor, keep: bool, options: dict[str, Any]) -> Tensor:
        residual = graph.residual.detach() * len(graph.residual)  # of each example's own loss
        inside = tuple(range(image.ndim - residual.ndim + 1, image.ndim))  # all dimensions of one example's output
        product = residual * image
        if inside:  # without dimensions to sum over, PyTorch would sum over all
            product = product.sum(dim=inside, keepdim=True)
        return residual * product / len(residual)
