"""Operators whose spectrum is known."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.curvature import EigenResult


class Dense:
    """A dense symmetric matrix as an operator that counts its products."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.count = matrix, 0
        self.shape = (len(matrix), len(matrix))
        self.dtype, self.device = matrix.dtype, matrix.device

    def matvec(self, v: Tensor) -> Tensor:
        self.count += 1
        return self.matrix @ v


def with_spectrum(values: list[float], size: int = 60, dtype: torch.dtype = torch.float64) -> Dense:
    generator = torch.Generator().manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    spectrum = torch.zeros(size, dtype=torch.float64)
    spectrum[: len(values)] = torch.tensor(values, dtype=torch.float64)
    return Dense(((q * spectrum) @ q.T).to(dtype))


SPECTRA = {
    "opposite signs, nearly the same size": [5.0, -4.95, 3.0, 1.0],
    "opposite signs, the same size": [5.0, -5.0, 3.0, 1.0],
    "gaps of five percent": [10 * 0.95**i for i in range(60)],
    "repeated": [10.0, 10.0, 10.0, 3.0, 2.0],
    "fewer than asked for": [3.0, 1.0],
    "negative": [-7.0, -3.0, 2.0, -1.0],
    "huge": [5e8, 4e8, -3e8, 1e8],
    "tiny": [5e-8, 4e-8, -3e-8, 1e-8],
    "zero": [],
}


def check(result: EigenResult, operator: Dense, wanted: Tensor, tolerance: float) -> None:
    scale = float(wanted.abs().max()) or 1.0
    assert result.converged.all()
    assert torch.allclose(
        result.eigenvalues.abs().double().sort().values,
        wanted.abs().sort().values,
        rtol=tolerance,
        atol=tolerance * scale,
    )
    assert result.orthogonality < 1e-5
    true = operator.matrix @ result.eigenvectors - result.eigenvectors * result.eigenvalues
    assert torch.allclose(torch.linalg.vector_norm(true, dim=0), result.residuals, atol=1e-4 * scale)
    assert result.matvecs == operator.count
