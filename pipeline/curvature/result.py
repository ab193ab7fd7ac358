"""What an eigensolver is asked, and what it reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pipeline.curvature.operator import SymmetricOperator

Which = Literal["magnitude", "algebraic"]
#: Called while a solver works with the number of the pair in work, from 0, and its relative residual.
Report = Callable[[int, float], None]


@dataclass(frozen=True)
class EigenResult:
    """k eigenpairs of an n x n symmetric operator.

    eigenvalues: (k,), signed, the wanted ones first. eigenvectors: (n, k), unit columns, each with its largest entry
    positive. residuals: (k,), |H v - lambda v| against the undeflated operator; a true eigenvalue lies within that of
    lambda. converged: (k,) bool. matvecs: products used.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor
    residuals: Tensor
    converged: Tensor
    matvecs: int

    @property
    def relative_residuals(self) -> Tensor:
        """(k,) residual / |lambda|; 0 where both are rounding errors beside the largest eigenvalue."""
        return relative_residuals(self.residuals, self.eigenvalues)

    @property
    def orthogonality(self) -> float:
        """max |V^T V - I|."""
        gram = self.eigenvectors.T @ self.eigenvectors
        return float((gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).abs().max())


def check_request(operator: SymmetricOperator, k: int, start: Tensor | None = None) -> None:
    """Raise ValueError where k is not in 1..n, or `start` is not (n, m)."""
    size = operator.shape[0]
    if not 1 <= k <= size:
        raise ValueError(f"k must be in 1..{size}, is {k}")
    if start is not None and (start.ndim != 2 or len(start) != size):
        raise ValueError(f"start must be ({size}, m), is {tuple(start.shape)}")


def rounding(values: Tensor) -> Tensor:
    """What rounding errors leave of a residual, at the size of the largest of `values`."""
    return 100 * torch.finfo(values.dtype).eps * values.abs().max()


def relative_residuals(residuals: Tensor, values: Tensor) -> Tensor:
    """(k,) residual / |lambda|; 0 where both are rounding errors beside the largest eigenvalue (lambda is 0)."""
    floor = rounding(values)
    size = values.abs().clamp_min(torch.finfo(residuals.dtype).tiny)
    return torch.where((residuals <= floor) & (values.abs() <= floor), torch.zeros_like(residuals), residuals / size)


def judged(vectors: Tensor, products: Tensor, values: Tensor, tolerance: float, matvecs: int) -> EigenResult:
    """The result of a solver. vectors: (n, k), unit columns; products: the undeflated operator times them; values: (k,)."""
    residuals = torch.linalg.vector_norm(products - vectors * values, dim=0)
    largest = vectors.abs().argmax(dim=0)
    signs = torch.sign(vectors[largest, torch.arange(len(largest), device=largest.device)])
    return EigenResult(
        eigenvalues=values,
        eigenvectors=vectors * signs,
        residuals=residuals,
        converged=relative_residuals(residuals, values) <= tolerance,
        matvecs=matvecs,
    )
