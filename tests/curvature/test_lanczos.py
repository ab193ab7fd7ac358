from __future__ import annotations

import pytest
import torch

from pipeline.curvature import deflated_power_iteration, lanczos
from tests.curvature import SPECTRA, check, with_spectrum


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", SPECTRA)
def test_it_finds_known_spectra_as_power_does(name: str, dtype: torch.dtype) -> None:
    operator = with_spectrum(SPECTRA[name], dtype=dtype)
    wanted = torch.linalg.eigvalsh(operator.matrix.double())
    wanted = wanted[wanted.abs().argsort(descending=True)[:4]]
    tolerance, agreement = (1e-7, 1e-6) if dtype == torch.float64 else (1e-3, 1e-3)
    found = lanczos(operator, 4, tolerance=tolerance)
    check(found, operator, wanted, agreement)
    power = deflated_power_iteration(operator, 4, tolerance=tolerance)
    scale = float(wanted.abs().max())
    assert torch.allclose(
        found.eigenvalues.abs().sort().values,
        power.eigenvalues.abs().sort().values,
        rtol=agreement,
        atol=agreement * scale,
    )


def test_algebraically_largest() -> None:
    found = lanczos(with_spectrum([-9.0, 5.0, 3.0, -2.0]), 2, which="algebraic", tolerance=1e-7)
    assert found.eigenvalues.tolist() == pytest.approx([5.0, 3.0])


@pytest.mark.parametrize("size", [4, 20])
def test_a_small_operator_is_solved_densely(size: int) -> None:
    operator = with_spectrum([4.0, -3.0, 2.0, 1.0], size=size)
    found = lanczos(operator, 4, tolerance=1e-9)
    assert found.eigenvalues.tolist() == pytest.approx([4.0, -3.0, 2.0, 1.0])
    assert found.matvecs == operator.count == size


def test_too_few_products_are_reported_as_not_converged() -> None:
    operator = with_spectrum([10 * 0.99**i for i in range(400)], size=400)
    found = lanczos(operator, 3, tolerance=1e-9, max_products=8)
    assert found.eigenvalues.shape == (3,)
    assert found.eigenvectors.shape == (400, 3)
    assert not found.converged.all()
    assert found.orthogonality < 1e-6
    assert found.matvecs == operator.count < 60


def test_the_same_seed_gives_the_same_bits() -> None:
    first, again = (lanczos(with_spectrum([5.0, 3.0]), 2, seed=4) for _ in range(2))
    assert torch.equal(first.eigenvectors, again.eigenvectors)


def test_where_the_start_vectors_subspace_is_exhausted_the_bits_are_the_same_too() -> None:
    """SciPy then draws another vector, by itself from the system's entropy."""
    matrix = torch.zeros(200, 200)
    matrix[0, 0] = 1
    found = [lanczos(matrix, 3, seed=4) for _ in range(4)]
    assert len({(one.matvecs, one.eigenvectors.numpy().tobytes()) for one in found}) == 1


def test_a_warm_start_saves_products() -> None:
    operator = with_spectrum([10 * 0.97**i for i in range(300)], size=300)
    cold = lanczos(operator, 1, tolerance=1e-5)
    warm = lanczos(operator, 1, tolerance=1e-5, start=cold.eigenvectors)
    assert warm.matvecs < cold.matvecs


@pytest.mark.parametrize("k", [0, 61])
def test_k_must_fit(k: int) -> None:
    with pytest.raises(ValueError, match="k must be an integer in"):
        lanczos(with_spectrum([1.0]), k)


def test_what_it_found_is_told() -> None:
    told: list[tuple[int, float]] = []
    lanczos(with_spectrum([5.0, 3.0]), 2, report=lambda pair, residual: told.append((pair, residual)))
    assert told[-1][0] == 1
    assert told[-1][1] <= 1e-3
