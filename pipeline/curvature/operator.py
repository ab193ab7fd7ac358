"""Products with the Hessian of a loss, computed without ever forming the Hessian."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .batches import MEMORY, BatchOperator


@runtime_checkable
class SymmetricOperator(Protocol):
    """The interface of a symmetric linear map that is known only by its products.

    An operator may also have a method `matmat`, (n, m) -> (n, m), for several products at once.

    Attributes:
        shape: (n, n).
        dtype: That of its vectors.
        device: That of its vectors.
    """

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    def matvec(self, v: Tensor) -> Tensor:
        """The product with one vector: (n,) -> (n,)."""
        ...


def product(operator: SymmetricOperator, v: Tensor) -> Tensor:
    """The product of an operator with one vector, which must be finite.

    With NaN an iteration would go on for ever, and ARPACK does.

    Args:
        operator: H, (n, n).
        v: (n,).

    Returns:
        H v, (n,).

    Raises:
        FloatingPointError: if it has NaN or infinity in it.
    """
    return _finite(operator.matvec(v))


def _finite(image: Tensor) -> Tensor:
    if not bool(torch.isfinite(image).all()):
        raise FloatingPointError(
            "a product with the matrix is not finite: NaN or infinity in the weights, in the batches or in the loss"
        )
    return image


def products(operator: SymmetricOperator, vectors: Tensor) -> Tensor:
    """The products of an operator with several vectors: at once if it has `matmat`, else one by one.

    Args:
        operator: H, (n, n).
        vectors: V, (n, m).

    Returns:
        H V, (n, m).

    Raises:
        FloatingPointError: if one has NaN or infinity in it.
    """
    matmat: Callable[[Tensor], Tensor] | None = getattr(operator, "matmat", None)
    if matmat is not None:
        return _finite(matmat(vectors))
    if vectors.shape[1] == 0:
        return vectors.clone()
    return _finite(torch.stack([operator.matvec(v) for v in vectors.unbind(1)], dim=1))


class HessianOperator(BatchOperator[list["Tensor | None"]]):
    """The Hessian of the mean loss over all examples, as a linear operator.

        H = d^2 L / d theta^2,    L = sum over batches of (examples in the batch / examples) * loss(*batch)

    `matvec` differentiates the inner product of the gradient with v (Pearlmutter 1994). The graph of the gradient is
    kept between products, which saves half of the work and costs memory in proportion to the number of examples; see
    :class:`pipeline.curvature.batches.BatchOperator`.

    Put the model into eval mode first, because dropout would make H random.

    Over the parameters of one layer alone, it is the block of that layer on H's diagonal.

    Args:
        loss: Maps the tensors of a batch to its mean loss.
        parameters: theta; those that require no gradient are left out. Parameters that the loss does not use get rows
            and columns of zeros.
        batches: Tuples of tensors with the examples along the first dimension. They may differ in size: L is the exact
            mean over all examples.
        retain: Whether to keep graphs between products.
        memory: Bytes that all graphs may take together.
        at_once: Whether `matmat` takes all vectors through one pass; None: on any device but a CPU.

    Raises:
        ValueError: if no parameter requires a gradient, or if there is no batch.
    """

    def __init__(
        self,
        loss: Callable[..., Tensor],
        parameters: Iterable[Tensor],
        batches: Iterable[Sequence[Tensor]],
        retain: bool = True,
        memory: int = MEMORY,
        at_once: bool | None = None,
    ) -> None:
        self._loss = loss
        super().__init__(parameters, batches, retain, memory, at_once)

    def _graph(self, batch: Sequence[Tensor]) -> list[Tensor | None]:
        """The gradient of the loss of a batch with its graph; None for a parameter that it does not use."""
        with torch.enable_grad():
            loss = self._loss(*batch)
            return list(torch.autograd.grad(loss, self._parameters, create_graph=True, allow_unused=True))

    def _times(
        self, graph: list[Tensor | None], pieces: Sequence[Tensor], keep: bool, options: dict[str, Any]
    ) -> Sequence[Tensor | None] | None:
        used = [(g, piece) for g, piece in zip(graph, pieces, strict=True) if g is not None and g.requires_grad]
        if not used:
            return None  # a loss that is linear in its parameters has no curvature
        return torch.autograd.grad(
            [g for g, _ in used],
            self._parameters,
            grad_outputs=[piece for _, piece in used],
            retain_graph=keep,
            allow_unused=True,
            **options,
        )

    def gradient(self) -> Tensor:
        """dL / d theta, (n,), without a graph; of batches whose graph is kept it costs nothing.

        Raises:
            RuntimeError: as `matvec` does.
        """
        self._check_that_graphs_hold()
        total = torch.zeros(self.shape[0], dtype=self.dtype, device=self.device)
        for kept, batch, weight in zip(self._graphs, self._batches, self._weights, strict=True):
            pieces: Sequence[Tensor | None] | None = kept
            if pieces is None:
                with torch.enable_grad():
                    pieces = torch.autograd.grad(self._loss(*batch), self._parameters, allow_unused=True)
            total.add_(self._flat(pieces, None), alpha=weight)
        return total
