"""What an eigensolver is asked for, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from .operator import SymmetricOperator

#: Which eigenvalues are the largest: by absolute value, or with their sign.
Which = Literal["magnitude", "algebraic"]
#: Called while a solver works, with the number of the current pair (from 0) and a relative residual (see the solver).
Report = Callable[[int, float], None]


@dataclass(frozen=True)
class EigenResult:
    """k eigenpairs of a symmetric operator, (n, n).

    Attributes:
        eigenvalues: (k,), signed; the largest first, by magnitude or algebraically as asked for. The published
            procedure gives them by their sign.
        eigenvectors: (n, k), unit columns, each with its largest entry positive.
        residuals: (k,), |H v - lambda v| with the undeflated operator H. A true eigenvalue lies within that distance of
            lambda.
        converged: (k,) bool, whether the relative residual reached the tolerance.
        matvecs: Number of products used.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor
    residuals: Tensor
    converged: Tensor
    matvecs: int

    @property
    def relative_residuals(self) -> Tensor:
        """(k,), residual / |lambda|; 0 where both are rounding errors beside the largest eigenvalue."""
        return relative_residuals(self.residuals, self.eigenvalues)

    @property
    def orthogonality(self) -> float:
        """How far the eigenvectors V are from orthonormal: max |V^T V - I|."""
        gram = self.eigenvectors.T @ self.eigenvectors
        return float((gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).abs().max())


def check_request(
    operator: SymmetricOperator, k: int, start: Tensor | None = None, which: str = "magnitude", tolerance: float = 1.0
) -> None:
    """Check what a solver is asked for.

    Args:
        operator: (n, n).
        k: Number of eigenpairs.
        start: Vectors to start from, or None.
        which: "magnitude" or "algebraic".
        tolerance: Relative residual at which a pair has converged.

    Raises:
        ValueError: if k is not an integer in 1..n, if `start` is not (n, m), if `which` is neither of the two, or if
            `tolerance` is negative or NaN.
    """
    size = operator.shape[0]
    if not isinstance(k, int) or not 1 <= k <= size:
        raise ValueError(f"k must be an integer in 1..{size}, is {k}")
    if which not in get_args(Which):
        raise ValueError(f"which must be one of {', '.join(get_args(Which))}, is {which!r}")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be a number of at least 0, is {tolerance}")
    if start is not None and (start.ndim != 2 or len(start) != size):
        raise ValueError(f"start must be ({size}, m), is {tuple(start.shape)}")


#: Norms below it are taken of scaled vectors: the squares of some entries may be too small for float32.
UNDERFLOW = 1e-15


def rounding(values: Tensor) -> Tensor:
    """The size up to which a residual is rounding error.

        100 eps max |lambda|

    Args:
        values: The eigenvalues so far, in the dtype that they were computed in.
    """
    return 100 * torch.finfo(values.dtype).eps * values.abs().max()


def relative_residuals(residuals: Tensor, values: Tensor) -> Tensor:
    """residual / |lambda|, or 0 where both are rounding errors beside the largest eigenvalue (lambda is 0 there).

    Args:
        residuals: (k,).
        values: (k,) eigenvalues.

    Returns:
        (k,).
    """
    floor = rounding(values)
    size = values.abs().clamp_min(torch.finfo(residuals.dtype).tiny)
    # Beside an eigenvalue of exactly 0 the quotient may overflow; it stays a number, which JSON can hold.
    quotient = (residuals / size).clamp_max(torch.finfo(residuals.dtype).max)
    return torch.where((residuals <= floor) & (values.abs() <= floor), torch.zeros_like(residuals), quotient)


def length(v: Tensor, dim: int = 0) -> Tensor:
    """The 2-norm of a vector, or of vectors along a dimension, where their squares underflow, too.

    The Hessian of few examples that are fitted well may have eigenvalues of 1e-20, whose residuals have squares of zero in
    float32: everything would look converged.

    Args:
        v: Vectors, along `dim`.
        dim: The dimension that is summed over.

    Returns:
        The norms, in the dtype of `v`.
    """
    plain: Tensor = torch.linalg.vector_norm(v, dim=dim)
    if v.dtype == torch.float64 or not bool((plain < UNDERFLOW).any()):
        return plain
    scale = v.abs().amax(dim=dim, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny)
    scaled: Tensor = torch.linalg.vector_norm(v / scale, dim=dim) * scale.squeeze(dim)
    return torch.where(plain < UNDERFLOW, scaled, plain)


def judged(vectors: Tensor, products: Tensor, values: Tensor, tolerance: float, matvecs: int) -> EigenResult:
    """Judge the pairs of a solver by their residuals.

    Args:
        vectors: (n, k), unit columns.
        products: (n, k), the undeflated operator times `vectors`.
        values: (k,) eigenvalues.
        tolerance: Relative residual up to which a pair has converged.
        matvecs: Number of products to report as used.

    Returns:
        The pairs in the given order; the sign of each vector makes its largest entry positive.
    """
    residuals = length(products - vectors * values)
    largest = vectors.abs().argmax(dim=0)
    signs = torch.sign(vectors[largest, torch.arange(len(largest), device=largest.device)])
    return EigenResult(
        eigenvalues=values,
        eigenvectors=vectors * signs,
        residuals=residuals,
        converged=relative_residuals(residuals, values) <= tolerance,
        matvecs=matvecs,
    )
