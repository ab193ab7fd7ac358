from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import aslinearoperator

from pipeline.curvature import (
    DenseOperator,
    as_operator,
    deflated_power_iteration,
    lanczos,
    published_power_iteration,
    spectral_density,
)
from pipeline.curvature.result import length, relative_residuals
from tests.curvature import SPECTRA, check, with_spectrum


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


@pytest.mark.parametrize("solver", [deflated_power_iteration, lanczos])
@pytest.mark.parametrize("size", [1e-18, 1e-24])
def test_eigenvalues_whose_residuals_have_no_square_in_float32_are_found(solver: Any, size: float) -> None:
    """As of the Hessian of one example that is fitted well. Residuals of zero would say that any start has converged."""
    operator = with_spectrum([size * value for value in (5.0, -4.0, 3.0, 1.0)], dtype=torch.float32)
    found = solver(operator, 3, tolerance=1e-3)
    assert (found.eigenvalues / size).tolist() == pytest.approx([5.0, -4.0, 3.0], rel=1e-3)
    assert found.converged.all()
    assert (found.residuals > 0).all()


def test_a_norm_is_that_of_float64_whatever_the_size() -> None:
    draw = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    v = draw * torch.tensor([1.0, 1e-17, 1e-25, 0.0])
    wanted = torch.linalg.vector_norm(v, dim=0, dtype=torch.float64).float()
    torch.testing.assert_close(length(v), wanted, rtol=1e-6, atol=0)
    torch.testing.assert_close(length(v.T, dim=1), wanted, rtol=1e-6, atol=0)
    torch.testing.assert_close(length(v[:, 2]), wanted[2], rtol=1e-6, atol=0)
    assert torch.equal(length(v[:, 0]), torch.linalg.vector_norm(v[:, 0]))


def test_a_residual_beside_an_eigenvalue_of_zero_is_a_number() -> None:
    found = relative_residuals(torch.tensor([1.0, 96.0]), torch.tensor([7.0, 0.0]))
    assert torch.isfinite(found).all()
    assert found[1] > 1e30


#: Twenty outliers of both signs, as the Hessian of a network has them, with gaps of 15 percent.
OUTLIERS = [10 * 0.85**i * (1 if i % 3 else -1) for i in range(20)]


@pytest.mark.parametrize(
    ("values", "k", "which"),
    [
        ([4.95, -5.0, 3.0, 1.0], 1, "magnitude"),
        ([4.5, -5.0, 3.0, 1.0], 1, "magnitude"),
        (OUTLIERS, 3, "magnitude"),
        (OUTLIERS, 5, "magnitude"),
        (OUTLIERS, 3, "algebraic"),
    ],
)
def test_no_larger_eigenvalue_is_missed_whatever_the_start(values: list[float], k: int, which: Any) -> None:
    """Without the last look, 1 to 9 of 40 start vectors led to converged pairs that were not the largest."""
    wanted = sorted(values, key=abs if which == "magnitude" else float, reverse=True)[:k]
    for seed in range(25):
        operator = with_spectrum(values, size=200)
        found = deflated_power_iteration(operator, k, which=which, seed=seed)
        assert found.eigenvalues.tolist() == pytest.approx(wanted, rel=1e-3), seed
        assert found.converged.all()
        assert found.matvecs == operator.count


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
    with pytest.raises(ValueError, match="k must be an integer in"):
        deflated_power_iteration(with_spectrum([1.0]), k)
    with pytest.raises(ValueError, match="k must be an integer in"):
        published_power_iteration(with_spectrum([1.0]), k)


def test_a_warm_start_saves_products() -> None:
    operator = with_spectrum(SPECTRA["gaps of five percent"])
    cold = deflated_power_iteration(operator, 3, tolerance=1e-6)
    noise = 1e-4 * torch.randn(60, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    warm = deflated_power_iteration(operator, 3, tolerance=1e-6, start=cold.eigenvectors + noise)
    assert warm.converged.all()
    assert torch.allclose(warm.eigenvalues, cold.eigenvalues, rtol=1e-9)
    assert warm.matvecs < cold.matvecs / 2


def test_a_warm_start_has_the_products_of_all_pairs_that_it_starts() -> None:
    operator = DenseOperator(torch.diag(torch.linspace(1, 2, 400, dtype=torch.float64) ** 6))
    cold = deflated_power_iteration(operator, 10, tolerance=1e-9, max_products=100)
    start = cold.eigenvectors.float().double()  # rounded, as those of a search in float32
    warm = deflated_power_iteration(operator, 10, tolerance=1e-9, max_products=100, start=start)
    assert cold.converged.all() and warm.converged.all()


def test_a_warm_start_may_hold_fewer_vectors_or_dependent_ones() -> None:
    operator = with_spectrum([5.0, -4.0, 3.0])
    start = torch.ones(60, 2, dtype=torch.float64)
    found = deflated_power_iteration(operator, 3, tolerance=1e-8, start=start)
    assert found.eigenvalues.tolist() == pytest.approx([5.0, -4.0, 3.0])
    with pytest.raises(ValueError, match=r"start must be \(60, m\), is \(3, 2\)"):
        deflated_power_iteration(operator, 3, start=torch.ones(3, 2))


def test_any_operator_will_do() -> None:
    matrix = with_spectrum([5.0, -4.0, 3.0]).matrix
    things = [matrix, matrix.numpy(), aslinearoperator(matrix.numpy()), DenseOperator(matrix)]
    found = [deflated_power_iteration(thing, 3, tolerance=1e-8).eigenvalues for thing in things]
    for values in found:
        assert values.tolist() == pytest.approx([5.0, -4.0, 3.0])
    single = as_operator(aslinearoperator(matrix.numpy().astype(np.float32)))
    assert single.dtype == torch.float32


@pytest.mark.parametrize(
    ("solver", "order"), [(deflated_power_iteration, [-5, 3]), (lanczos, [-5, 3]), (published_power_iteration, [3, -5])]
)
def test_a_matrix_of_whole_numbers_will_do(solver: Any, order: list[float]) -> None:
    """By magnitude, but for the published procedure, which sorts them by value."""
    assert solver(np.diag([3, 2, -5]), 2).eigenvalues.tolist() == pytest.approx(order, rel=1e-4)


def test_what_is_no_operator_is_refused() -> None:
    with pytest.raises(TypeError, match="must be real"):
        as_operator(torch.eye(2, dtype=torch.complex64))
    with pytest.raises(TypeError, match="must be real"):
        as_operator(aslinearoperator(np.array([[2, 1j], [-1j, 2]])))
    with pytest.raises(ValueError, match=r"must be square, this one is \(2, 3\)"):
        as_operator(torch.ones(2, 3))
    with pytest.raises(TypeError, match="neither a matrix nor an operator with shape and matvec: list"):
        as_operator([[1.0]])


# --- the published procedure


def test_the_published_procedure_fails_where_ours_does_not_and_its_residuals_say_so() -> None:
    operator = with_spectrum(SPECTRA["opposite signs, nearly the same size"])
    published = published_power_iteration(operator, 2)
    assert abs(float(published.eigenvalues[0])) < 4.5  # 5 and -4.95 cancel
    assert not published.converged.any()
    assert float(published.relative_residuals.min()) > 0.2
    assert published.matvecs <= 2 * 18
    assert operator.count == published.matvecs + 2  # two to judge it
    ours = deflated_power_iteration(operator, 2, tolerance=1e-7)
    assert ours.eigenvalues.tolist() == pytest.approx([5.0, -4.95])


def test_the_published_procedure_finds_what_is_well_separated() -> None:
    published = published_power_iteration(with_spectrum([100.0, 10.0, 1.0]), 2)
    assert published.eigenvalues.tolist() == pytest.approx([100.0, 10.0], rel=1e-3)
    assert published.converged.all()


def test_the_published_procedure_takes_at_most_18_steps_a_pair() -> None:
    close = with_spectrum(SPECTRA["gaps of five percent"])
    assert published_power_iteration(close, 3).matvecs == 3 * 18


class OnesOwn:
    """The least that an operator needs: a shape, products, and torch's dtype."""

    shape = (30, 30)
    dtype = torch.float64

    def __init__(self) -> None:
        self.matrix = with_spectrum([5.0, -3.0, 1.0], size=30).matrix

    def matvec(self, v: torch.Tensor) -> torch.Tensor:
        return self.matrix @ v


def test_an_operator_of_torch_vectors_needs_no_device_and_no_matmat() -> None:
    wanted = torch.tensor([5.0, -3.0], dtype=torch.float64)
    for solver in (deflated_power_iteration, lanczos):
        torch.testing.assert_close(solver(OnesOwn(), 2, tolerance=1e-8).eigenvalues, wanted)
    assert spectral_density(OnesOwn(), probes=1, steps=30).nodes.max() == pytest.approx(5.0)


def test_a_dtype_of_nobody_is_told() -> None:
    operator = OnesOwn()
    operator.dtype = "thirty bits"  # type: ignore[assignment]
    with pytest.raises(TypeError, match="the operator's dtype must be torch's or numpy's, is 'thirty bits'"):
        as_operator(operator)
