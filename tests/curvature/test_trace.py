"""Trace and Frobenius norm, by random signs and from the density's quadrature."""

from __future__ import annotations

import pytest
import torch

from pipeline.curvature import density_moments, hutchinson, spectral_density
from tests.curvature import Dense, with_spectrum


def matrix(seed: int, size: int = 40) -> Dense:
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return Dense(draw + draw.T)


@pytest.mark.parametrize("way", ["signs", "density"])
def test_the_true_values_lie_within_three_standard_errors(way: str) -> None:
    misses, errors = 0, []
    for seed in range(100):
        operator = matrix(seed)
        exact = operator.matrix
        if way == "signs":
            found = hutchinson(operator, 30, seed=1000 + seed)
            assert operator.count == found.matvecs == 30
        else:
            found = density_moments(spectral_density(operator, 30, 3, seed=1000 + seed), 40)
        assert found.trace_error is not None and found.frobenius_error is not None
        errors.append(abs(found.frobenius - float(exact.norm())) / found.frobenius_error)
        misses += abs(found.trace - float(exact.trace())) > 3 * found.trace_error
        misses += errors[-1] > 3
    assert misses <= 6  # of 200; Student's t with 29 degrees of freedom would miss 1.1 of them
    assert (
        0.5 < sum(error < 1 for error in errors) / 100 < 0.9
    )  # the stated error is neither much too large nor too small


def test_signs_give_the_trace_of_a_diagonal_matrix_exactly() -> None:
    operator = Dense(torch.diag(torch.tensor([3.0, -1.0, 0.5], dtype=torch.float64)))
    found = hutchinson(operator, 4)
    assert found.trace == 2.5
    assert found.trace_error == 0
    assert found.frobenius == pytest.approx((9 + 1 + 0.25) ** 0.5)


def test_one_probe_has_no_error_and_zero_is_zero() -> None:
    found = hutchinson(with_spectrum([5.0]), 1)
    assert found.trace_error is None and found.frobenius_error is None
    zero = hutchinson(Dense(torch.zeros(6, 6)), 3)
    assert (zero.trace, zero.trace_error, zero.frobenius, zero.frobenius_error) == (0, 0, 0, 0)
    with pytest.raises(ValueError, match="probes must be at least 1, got 0"):
        hutchinson(Dense(torch.zeros(6, 6)), 0)


def test_the_same_seed_gives_the_same_vectors() -> None:
    assert hutchinson(matrix(1), 3, seed=5) == hutchinson(matrix(1), 3, seed=5) != hutchinson(matrix(1), 3, seed=6)
