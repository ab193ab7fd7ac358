"""The common base of the curvature operators: a matrix that is a mean over examples, taken over batches of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

#: Default bound, in bytes, for all graphs together.
MEMORY = 2 << 30

#: What an operator keeps of a batch between products.
Graph = TypeVar("Graph")


class BatchOperator(ABC, Generic[Graph]):
    """A symmetric matrix over the parameters of a network, known only by its products, as the mean over all examples.

        A = sum over batches of (examples in the batch / examples) * A(batch)

    A subclass says what it keeps of a batch (`_graph`) and how it multiplies with that (`_times`). What an example costs
    is measured first. Batches whose graph would take more than a quarter of `memory` are cut; as many graphs are kept
    as fit, and those of the other batches are built again for every product.

    Args:
        parameters: theta; those that require no gradient are left out.
        batches: Tuples of tensors with the examples along the first dimension. They may differ in size.
        retain: Whether to keep graphs between products.
        memory: Bytes that all graphs may take together.
        at_once: Whether `matmat` takes all vectors through one pass. None: on any device but a CPU, where four vectors
            at once took 1.0 to 1.6 times as long on one thread as one after the other.

    Raises:
        ValueError: if no parameter requires a gradient, if there is no batch, or one without examples.
        TypeError: if the parameters are not tensors, or a batch is a tensor instead of a tuple of them.

    Attributes:
        shape: (n, n), where n is the number of values in all parameters.
        dtype: That of the first parameter.
        device: That of the first parameter.
        examples: Number of examples in all batches.
        bytes_per_example: What the graphs of one example keep.
        retained: The share of the examples whose graph is kept.
        bytes_retained: What these graphs take together.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        batches: Iterable[Sequence[Tensor]],
        retain: bool = True,
        memory: int = MEMORY,
        at_once: bool | None = None,
    ) -> None:
        parameters, batches = list(parameters), list(batches)
        if not all(isinstance(parameter, Tensor) for parameter in parameters):
            raise TypeError("parameters must be tensors, as model.parameters() gives them")
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        if not self._parameters:
            raise ValueError("no parameter requires a gradient")
        if not batches:
            raise ValueError("no batches")
        if any(isinstance(batch, Tensor) for batch in batches):
            raise TypeError("batches must be tuples of tensors: a single one is [(images, labels)]")
        for number, batch in enumerate(batches):
            if not len(batch) or not len(batch[0]):
                raise ValueError(f"batch {number} has no examples")
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
        self._graphs: list[Graph | None] = [None] * len(self._batches)
        self._fits = 0
        if retain:
            # While a batch without a kept graph is in use, its graph takes memory beside the kept ones.
            self._fits = memory if self.examples * self.bytes_per_example <= memory else memory * 3 // 4
        self._retain()

    def _retain(self) -> None:
        """Build and keep as many graphs as fit."""
        kept = 0
        for number, batch in enumerate(self._batches):
            if (kept + len(batch[0])) * self.bytes_per_example > self._fits:
                break
            self._graphs[number] = self._built(batch)
            kept += len(batch[0])
        self._versions = self._versions_now()
        self.bytes_retained = kept * self.bytes_per_example
        self.retained = kept / self.examples

    @contextmanager
    def released(self) -> Iterator[None]:
        """Let go of all graphs while the block runs, so that another operator can have the memory.

        They are built again after it, from the parameters as they are then. Products within the block build their own.
        """
        self._graphs = [None] * len(self._batches)
        self.bytes_retained, self.retained = 0, 0.0
        yield
        self._retain()

    def _versions_now(self) -> list[tuple[int, int]]:
        """How often each parameter has been changed in place, as autograd counts, and where its numbers are.

        It counts no change through `.data`, of which only a tensor that takes its place is seen.
        """
        return [(parameter._version, parameter.data_ptr()) for parameter in self._parameters]

    def _check_that_graphs_hold(self) -> None:
        """Raise RuntimeError if a graph is kept of parameters that have changed since: autograd does not always see it."""
        if self.retained and self._versions != self._versions_now():
            raise RuntimeError(
                "the parameters have changed since this operator was made; make it anew, or change them within "
                "'with operator.released():'"
            )

    def _built(self, batch: Sequence[Tensor]) -> Graph:
        # PyTorch's fused attention has no second derivative.
        with sdpa_kernel(SDPBackend.MATH):
            return self._graph(batch)

    @abstractmethod
    def _graph(self, batch: Sequence[Tensor]) -> Graph:
        """What the products with the matrix of a batch need."""

    @abstractmethod
    def _times(
        self, graph: Graph, pieces: Sequence[Tensor], keep: bool, options: dict[str, Any]
    ) -> Sequence[Tensor | None] | None:
        """The product with the matrix of a batch, in pieces of the parameters' shapes; None for zero.

        Args:
            graph: What `_graph` gave for the batch.
            pieces: The part of v for each parameter, in the parameter's shape; or (m, *shape) for m vectors at once.
            keep: Whether the graph is used again.
            options: For `torch.autograd.grad`, where there are several vectors.
        """

    def _measured(self, batch: Sequence[Tensor]) -> int:
        """Bytes that the graph of a batch keeps for each example."""
        few, more = (self._bytes([part[:count] for part in batch]) for count in (1, 3))
        further = min(3, len(batch[0])) - 1
        # Of a single example what its graph shares with those of others cannot be told apart: all of it counts.
        return max(1, (more - few) // further if further else few)

    def _bytes(self, batch: Sequence[Tensor]) -> int:
        """Bytes of all tensors that the graph of a batch keeps."""
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            graph = self._built(batch)  # kept alive: it holds the storages that are counted
        total = sum(kept.values())
        del graph
        return total

    def matvec(self, v: Tensor) -> Tensor:
        """The product with one vector.

        Args:
            v: (n,), the parameters one after the other, each flattened.

        Returns:
            A v, (n,), in the same order.

        Raises:
            RuntimeError: if a parameter was changed in place after the operator was made, outside `released`.
        """
        return self._product([piece.view_as(p) for piece, p in self._pieces(v)], None)

    def matmat(self, vectors: Tensor) -> Tensor:
        """The products with several vectors.

        Args:
            vectors: V, (n, m).

        Returns:
            A V, (n, m).

        Raises:
            RuntimeError: as `matvec` does.
        """
        count = vectors.shape[1]
        if count < 2 or not self._at_once:
            return torch.stack([self.matvec(v) for v in vectors.unbind(1)], dim=1) if count else vectors.clone()
        rows = vectors.T.contiguous()
        return self._product([piece.reshape(count, *p.shape) for piece, p in self._pieces(rows)], count).T

    def _pieces(self, vectors: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
        return zip(torch.split(vectors, self._sizes, dim=-1), self._parameters, strict=True)

    def _product(self, pieces: Sequence[Tensor], count: int | None) -> Tensor:
        """A v, (n,), or for `count` vectors (count, n); pieces as for `_times`."""
        self._check_that_graphs_hold()
        shape = self.shape[:1] if count is None else (count, self.shape[0])
        product = torch.zeros(shape, dtype=self.dtype, device=self.device)
        options: dict[str, Any] = {} if count is None else {"is_grads_batched": True}
        for kept, batch, weight in zip(self._graphs, self._batches, self._weights, strict=True):
            graph = self._built(batch) if kept is None else kept
            if (of_batch := self._times(graph, pieces, kept is not None, options)) is not None:
                product.add_(self._flat(of_batch, count), alpha=weight)
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
