"""Products with the Hessian of a loss, without ever forming it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

#: Bytes that retained graphs may take together.
MEMORY = 2 << 30


@runtime_checkable
class SymmetricOperator(Protocol):
    """A symmetric linear map that is known by its products."""

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    def matvec(self, v: Tensor) -> Tensor:
        """v: (n,) -> (n,)."""
        ...


def products(operator: SymmetricOperator, vectors: Tensor) -> Tensor:
    """H V. vectors: (n, m) -> (n, m); all at once where the operator has `matmat`."""
    matmat: Callable[[Tensor], Tensor] | None = getattr(operator, "matmat", None)
    if matmat is not None:
        return matmat(vectors)
    if vectors.shape[1] == 0:
        return vectors.clone()
    return torch.stack([operator.matvec(v) for v in vectors.unbind(1)], dim=1)


class HessianOperator:
    """H = d^2 L / d theta^2 of the mean loss over all examples, as a linear operator.

    loss: maps a batch to its mean loss. parameters: the theta; those the loss does not use get rows of zeros.
    batches: tuples of tensors with the examples along the first dimension; batches of unequal size are weighted by their
    number of examples, so that L is the exact mean. The caller puts the model into eval mode (dropout would make H random).

    matvec differentiates the inner product of the gradient with v (Pearlmutter 1994). The graph of the first gradient is
    kept between products, which saves half of the work; it costs memory in proportion to the examples. memory: bytes that
    all graphs may take together. What an example takes is measured first; batches whose graph would take more than a
    quarter are cut, as many graphs are kept as fit, and those of the other batches are made anew for every product.
    retain=False keeps none. at_once: whether matmat takes all vectors through one pass; None: on a GPU alone (one CPU thread
    needed 1.0 to 1.6 times as long for four at once as for one after the other).

    shape: (n, n), n the number of parameters. examples: in all batches. retained: the share of them whose graph is kept.
    Raises ValueError where there is nothing to differentiate, or no batch.
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
            # A batch that is not kept needs its graph for a while, beside those that are.
            fits = memory if self.examples * self.bytes_per_example <= memory else memory * 3 // 4
            for number, batch in enumerate(self._batches):
                if (kept + len(batch[0])) * self.bytes_per_example > fits:
                    break
                self._graphs[number] = self._gradient(batch)
                kept += len(batch[0])
        self.retained = kept / self.examples

    def _measured(self, batch: Sequence[Tensor]) -> int:
        """Bytes that the graphs of the first gradient and of a product through it keep for each example."""
        few, more = (self._bytes([part[:count] for part in batch]) for count in (1, 3))
        return max(1, (more - few) // min(2, max(1, len(batch[0]) - 1)))

    def _bytes(self, batch: Sequence[Tensor]) -> int:
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            gradient = self._gradient(batch)  # must live on: its graph holds the storages that are counted
        total = sum(kept.values())
        del gradient
        return total

    def _gradient(self, batch: Sequence[Tensor]) -> list[Tensor | None]:
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
        """H v. v: (n,), n the number of parameters, in the order of `parameters`, each flattened."""
        return self._product([piece.view_as(p) for piece, p in self._pieces(v)], None)

    def matmat(self, vectors: Tensor) -> Tensor:
        """H V. vectors: (n, m) -> (n, m)."""
        count = vectors.shape[1]
        if count < 2 or not self._at_once:
            return torch.stack([self.matvec(v) for v in vectors.unbind(1)], dim=1) if count else vectors.clone()
        rows = vectors.T.contiguous()
        return self._product([piece.reshape(count, *p.shape) for piece, p in self._pieces(rows)], count).T

    def _pieces(self, vectors: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
        return zip(torch.split(vectors, self._sizes, dim=-1), self._parameters, strict=True)

    def _product(self, pieces: Sequence[Tensor], count: int | None) -> Tensor:
        """pieces: of each parameter's shape, or (count, *shape). -> (n,) or (count, n)."""
        shape = self.shape[:1] if count is None else (count, self.shape[0])
        product = torch.zeros(shape, dtype=self.dtype, device=self.device)
        for graph, batch, weight in zip(self._graphs, self._batches, self._weights, strict=True):
            gradient = self._gradient(batch) if graph is None else graph
            used = [(g, piece) for g, piece in zip(gradient, pieces, strict=True) if g is not None and g.requires_grad]
            if not used:
                continue  # a loss that is linear in its parameters
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
    """Pieces of about equal size of at most `most` examples."""
    count = -(-len(batch[0]) // most)
    parts = [torch.tensor_split(part, count) for part in batch]
    return [list(piece) for piece in zip(*parts, strict=True)]
