"""Products with the Hessian of a loss, computed without ever forming the Hessian."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

#: Default bound, in bytes, for all graphs together.
MEMORY = 2 << 30


@runtime_checkable
class SymmetricOperator(Protocol):
    """The interface of a symmetric linear map that is known only by its products.

    An operator may also have a method `matmat`, (n, m) -> (n, m), for several products at once.

    Attributes:
        shape: (n, n).
        dtype: that of its vectors.
        device: that of its vectors.
    """

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    def matvec(self, v: Tensor) -> Tensor:
        """The product with one vector: (n,) -> (n,)."""
        ...


def products(operator: SymmetricOperator, vectors: Tensor) -> Tensor:
    """The products of an operator with several vectors: at once if it has `matmat`, else one by one.

    Args:
        operator: H, (n, n).
        vectors: V, (n, m).

    Returns:
        H V, (n, m).
    """
    matmat: Callable[[Tensor], Tensor] | None = getattr(operator, "matmat", None)
    if matmat is not None:
        return matmat(vectors)
    if vectors.shape[1] == 0:
        return vectors.clone()
    return torch.stack([operator.matvec(v) for v in vectors.unbind(1)], dim=1)


class HessianOperator:
    """The Hessian of the mean loss over all examples, as a linear operator.

        H = d^2 L / d theta^2,    L = sum over batches of (examples in the batch / examples) * loss(*batch)

    `matvec` differentiates the inner product of the gradient with v (Pearlmutter 1994). The graph of the gradient is
    kept between products, which saves half of the work and costs memory in proportion to the number of examples. What
    an example costs is measured first. Batches whose graph would take more than a quarter of `memory` are cut; as many
    graphs are kept as fit, and those of the other batches are built again for every product.

    Put the model into eval mode first, because dropout would make H random.

    Args:
        loss: maps the tensors of a batch to its mean loss.
        parameters: theta; those that require no gradient are left out. Parameters that the loss does not use get rows
            and columns of zeros.
        batches: tuples of tensors with the examples along the first dimension. They may differ in size: L is the exact
            mean over all examples.
        retain: whether to keep graphs between products.
        memory: bytes that all graphs may take together.
        at_once: whether `matmat` takes all vectors through one pass. None: on any device but a CPU, where four vectors
            at once took 1.0 to 1.6 times as long on one thread as one after the other.

    Raises:
        ValueError: if no parameter requires a gradient, or if there is no batch.

    Attributes:
        shape: (n, n), where n is the number of values in all parameters.
        dtype: that of the first parameter.
        device: that of the first parameter.
        examples: number of examples in all batches.
        bytes_per_example: what the graphs of a gradient and of a product keep for one example.
        retained: the share of the examples whose graph is kept.
    """

    def __init__(
        self,
        loss: Callable[..., Tensor],
        parameters: Iterable[Tensor],
        batches: Sequence[Sequence[Tensor]],
        retain: bool = True,
        memory: int = MEMORY,
        at_once: bool | None = None,
    ) -> None:
        self._loss = loss
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        if not self._parameters:
            raise ValueError("no parameter requires a gradient")
        if not batches:
            raise ValueError("no batches")
        self._sizes = [parameter.numel() for parameter in self._parameters]
        size = sum(self._sizes)
        self.shape = (size, size)
        self.dtype = self._parameters[0].dtype
        self.device = self._parameters[0].device
        self._at_once = self.device.type != "cpu" if at_once is None else at_once
        self.examples = sum(len(batch[0]) for batch in batches)
        self.bytes_per_example = self._measured(max(batches, key=lambda batch: len(batch[0])))
        most = max(1, memory // 4 // self.bytes_per_example)
        self._batches = [piece for batch in batches for piece in _cut(batch, most)]
        self._weights = [len(batch[0]) / self.examples for batch in self._batches]
        self._graphs: list[list[Tensor | None] | None] = [None] * len(self._batches)
        kept = 0
        if retain:
            # While a batch without a kept graph is in use, its graph takes memory beside the kept ones.
            fits = memory if self.examples * self.bytes_per_example <= memory else memory * 3 // 4
            for number, batch in enumerate(self._batches):
                if (kept + len(batch[0])) * self.bytes_per_example > fits:
                    break
                self._graphs[number] = self._gradient(batch)
                kept += len(batch[0])
        self.retained = kept / self.examples

    def _measured(self, batch: Sequence[Tensor]) -> int:
        """Bytes that the graphs of the gradient and of a product through it keep for each example."""
        few, more = (self._bytes([part[:count] for part in batch]) for count in (1, 3))
        further = min(3, len(batch[0])) - 1
        # Of a single example what its graph shares with those of others cannot be told apart: all of it counts.
        return max(1, (more - few) // further if further else few)

    def _bytes(self, batch: Sequence[Tensor]) -> int:
        """Bytes of all tensors that the graph of the gradient of a batch keeps."""
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            gradient = self._gradient(batch)  # kept alive: its graph holds the storages that are counted
        total = sum(kept.values())
        del gradient
        return total

    def _gradient(self, batch: Sequence[Tensor]) -> list[Tensor | None]:
        """The gradient of the loss of a batch with its graph; None for a parameter that it does not use."""
        with torch.enable_grad():
            loss = self._loss(*batch)
            return list(torch.autograd.grad(loss, self._parameters, create_graph=True, allow_unused=True))

    def gradient(self) -> Tensor:
        """dL / d theta, (n,), without a graph."""
        total = torch.zeros(self.shape[0], dtype=self.dtype, device=self.device)
        for batch, weight in zip(self._batches, self._weights, strict=True):
            with torch.enable_grad():
                pieces = torch.autograd.grad(self._loss(*batch), self._parameters, allow_unused=True)
            total.add_(self._flat(pieces, None), alpha=weight)
        return total

    def matvec(self, v: Tensor) -> Tensor:
        """The product with one vector.

        Args:
            v: (n,), the parameters one after the other, each flattened.

        Returns:
            H v, (n,), in the same order.
        """
        return self._product([piece.view_as(p) for piece, p in self._pieces(v)], None)

    def matmat(self, vectors: Tensor) -> Tensor:
        """The products with several vectors.

        Args:
            vectors: V, (n, m).

        Returns:
            H V, (n, m).
        """
        count = vectors.shape[1]
        if count < 2 or not self._at_once:
            return torch.stack([self.matvec(v) for v in vectors.unbind(1)], dim=1) if count else vectors.clone()
        rows = vectors.T.contiguous()
        return self._product([piece.reshape(count, *p.shape) for piece, p in self._pieces(rows)], count).T

    def _pieces(self, vectors: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
        return zip(torch.split(vectors, self._sizes, dim=-1), self._parameters, strict=True)

    def _product(self, pieces: Sequence[Tensor], count: int | None) -> Tensor:
        """H v, (n,), or for `count` vectors (count, n).

        pieces: the part of v for each parameter, in the parameter's shape, or (count, *shape).
        """
        shape = self.shape[:1] if count is None else (count, self.shape[0])
        product = torch.zeros(shape, dtype=self.dtype, device=self.device)
        for graph, batch, weight in zip(self._graphs, self._batches, self._weights, strict=True):
            gradient = self._gradient(batch) if graph is None else graph
            used = [(g, piece) for g, piece in zip(gradient, pieces, strict=True) if g is not None and g.requires_grad]
            if not used:
                continue  # a loss that is linear in its parameters has no curvature
            options: dict[str, Any] = {} if count is None else {"is_grads_batched": True}
            second = torch.autograd.grad(
                [g for g, _ in used],
                self._parameters,
                grad_outputs=[piece for _, piece in used],
                retain_graph=graph is not None,
                allow_unused=True,
                **options,
            )
            product.add_(self._flat(second, count), alpha=weight)
        return product

    def _flat(self, pieces: Sequence[Tensor | None], count: int | None) -> Tensor:
        lead = () if count is None else (count,)
        return torch.cat(
            [
                (p.new_zeros((*lead, *p.shape)) if piece is None else piece.detach()).reshape(*lead, -1)
                for piece, p in zip(pieces, self._parameters, strict=True)
            ],
            dim=-1,
        )


def _cut(batch: Sequence[Tensor], most: int) -> list[list[Tensor]]:
    """Cut a batch into pieces of about equal size, each of at most `most` examples."""
    count = -(-len(batch[0]) // most)
    parts = [torch.tensor_split(part, count) for part in batch]
    return [list(piece) for piece in zip(*parts, strict=True)]
