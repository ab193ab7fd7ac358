"""Products with the Hessian of a loss, without ever forming it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class SymmetricOperator(Protocol):
    """A symmetric linear map that is known by its products."""

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    def matvec(self, v: Tensor) -> Tensor:
        """v: (n,) -> (n,)."""
        ...


class HessianOperator:
    """H = d^2 L / d theta^2 of the mean loss over all examples, as a linear operator.

    loss: maps a batch to its mean loss. parameters: the theta; those the loss does not use get rows of zeros.
    batches: tuples of tensors with the examples along the first dimension; batches of unequal size are weighted by their
    number of examples, so that L is the exact mean. The caller puts the model into eval mode (dropout would make H random).

    matvec differentiates the inner product of the gradient with v (Pearlmutter 1994). The graph of the first gradient is
    kept between products, which saves half of the work; it costs memory in proportion to the examples. retain=False
    computes it anew for every product, one batch at a time.
    """

    def __init__(
        self,
        loss: Callable[..., Tensor],
        parameters: Iterable[Tensor],
        batches: Sequence[Sequence[Tensor]],
        retain: bool = True,
    ) -> None:
        self._loss = loss
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        if not self._parameters:
            raise ValueError("no parameter requires a gradient")
        if not batches:
            raise ValueError("no batches")
        self._batches = batches
        examples = [len(batch[0]) for batch in batches]
        self.examples = sum(examples)
        self._weights = [count / self.examples for count in examples]
        size = sum(parameter.numel() for parameter in self._parameters)
        self.shape = (size, size)
        self.dtype = self._parameters[0].dtype
        self.device = self._parameters[0].device
        self._graphs = [self._gradient(batch) for batch in batches] if retain else None

    def _gradient(self, batch: Sequence[Tensor]) -> list[Tensor | None]:
        with torch.enable_grad():
            loss = self._loss(*batch)
            return list(torch.autograd.grad(loss, self._parameters, create_graph=True, allow_unused=True))

    def matvec(self, v: Tensor) -> Tensor:
        """H v. v: (n,), n the number of parameters, in the order of `parameters`, each flattened."""
        pieces = [
            piece.view_as(parameter)
            for piece, parameter in zip(
                torch.split(v, [p.numel() for p in self._parameters]), self._parameters, strict=True
            )
        ]
        product = torch.zeros_like(v)
        for index, weight in enumerate(self._weights):
            gradient = self._graphs[index] if self._graphs is not None else self._gradient(self._batches[index])
            used = [(g, piece) for g, piece in zip(gradient, pieces, strict=True) if g is not None and g.requires_grad]
            if not used:
                continue  # a loss that is linear in its parameters
            second = torch.autograd.grad(
                [g for g, _ in used],
                self._parameters,
                grad_outputs=[piece for _, piece in used],
                retain_graph=self._graphs is not None,
                allow_unused=True,
            )
            flat = [
                (torch.zeros_like(parameter) if s is None else s).reshape(-1)
                for s, parameter in zip(second, self._parameters, strict=True)
            ]
            product.add_(torch.cat(flat), alpha=weight)
        return product
