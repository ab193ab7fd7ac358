from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.curvature import EigenResult, deflated_power_iteration


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


@pytest.mark.parametrize("name", SPECTRA)
def test_float64_finds_known_spectra(name: str) -> None:
    operator = with_spectrum(SPECTRA[name])
    wanted = torch.linalg.eigvalsh(operator.matrix)
    wanted = wanted[wanted.abs().argsort(descending=True)[:4]]
    check(deflated_power_iteration(operator, 4, tolerance=1e-7), operator, wanted, 1e-6)


@pytest.mark.parametrize("name", SPECTRA)
def test_float32_finds_known_spectra(name: str) -> None:
    operator = with_spectrum(SPECTRA[name], dtype=torch.float32)
    wanted = torch.linalg.eigvalsh(operator.matrix.double())
    wanted = wanted[wanted.abs().argsort(descending=True)[:4]]
    check(deflated_power_iteration(operator, 4, tolerance=1e-3), operator, wanted, 1e-3)


def test_algebraically_largest() -> None:
    result = deflated_power_iteration(with_spectrum([-9.0, 5.0, 3.0, -2.0]), 2, which="algebraic", tolerance=1e-7)
    assert result.eigenvalues.tolist() == pytest.approx([5.0, 3.0])


def test_a_whole_small_spectrum() -> None:
    operator = with_spectrum([4.0, -3.0, 2.0, 1.0], size=4)
    result = deflated_power_iteration(operator, 4, tolerance=1e-9)
    assert result.eigenvalues.tolist() == pytest.approx([4.0, -3.0, 2.0, 1.0])


def test_too_few_products_are_reported_as_not_converged() -> None:
    result = deflated_power_iteration(with_spectrum(SPECTRA["gaps of five percent"]), 3, tolerance=1e-7, max_products=3)
    assert not result.converged.all()
    assert float(result.relative_residuals.max()) > 1e-7


def test_the_same_seed_gives_the_same_bits() -> None:
    first, again = (deflated_power_iteration(with_spectrum([5.0, 3.0]), 2, seed=4) for _ in range(2))
    assert torch.equal(first.eigenvectors, again.eigenvectors)
    assert torch.equal(first.eigenvalues, again.eigenvalues)


def test_the_largest_entry_of_a_vector_is_positive() -> None:
    vectors = deflated_power_iteration(with_spectrum([5.0, 4.0, 3.0]), 3).eigenvectors
    assert (vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True)) > 0).all()


def test_progress_is_told_by_pair_and_residual() -> None:
    told: list[tuple[int, float]] = []
    deflated_power_iteration(with_spectrum([5.0, 3.0]), 2, report=lambda pair, residual: told.append((pair, residual)))
    assert {pair for pair, _ in told} == {0, 1}
    assert told[-1][1] <= 1e-3


@pytest.mark.parametrize("k", [0, 61])
def test_k_must_fit(k: int) -> None:
    with pytest.raises(ValueError, match="k must be in"):
        deflated_power_iteration(with_spectrum([1.0]), k)
