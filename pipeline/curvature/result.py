"""What an eigensolver reports."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
        """(k,) residual / |lambda|; 0 where both are 0."""
        size = self.eigenvalues.abs()
        ratio = self.residuals / size.clamp_min(torch.finfo(size.dtype).tiny)
        return torch.where(self.residuals == 0, torch.zeros_like(ratio), ratio)

    @property
    def orthogonality(self) -> float:
        """max |V^T V - I|."""
        gram = self.eigenvectors.T @ self.eigenvectors
        return float((gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).abs().max())
