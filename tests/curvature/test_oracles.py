"""Operators, traces and eigenvalues against two independent libraries: curvlinops and hessian-eigenthings.

Both flatten parameters in the order of `module.parameters()`, as ours do. curvlinops takes a mean loss as a mean over all
examples, as ours do; hessian-eigenthings does not (see `test_hessian_eigenthings_weighs_uneven_batches_alike`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.curvature import (
    FisherOperator,
    GaussNewtonOperator,
    HessianOperator,
    SymmetricOperator,
    as_operator,
    deflated_power_iteration,
    hutchinson,
    lanczos,
)
from tests.curvature.test_operator import Conv, dense, small

#: Both sides do the same float64 arithmetic in another order; 1e-16 to 2e-16 was seen.
ROUNDING = 1e-12
OUTPUTS = 4
#: Each network and each loss once, for what depends on neither. The matrices are compared for every pair.
EACH_ONCE = [("MLP", "cross-entropy"), ("convolution", "squared error")]


@pytest.fixture
def curvlinops() -> Any:
    return pytest.importorskip("curvlinops", reason="no curvlinops here")


@pytest.fixture
def eigenthings() -> Any:
    return pytest.importorskip("hessian_eigenthings", reason="no hessian_eigenthings here")


class Case(NamedTuple):
    """A network, its mean loss, and two batches of different sizes."""

    module: nn.Module
    criterion: nn.Module
    batches: list[tuple[Tensor, Tensor]]

    @property
    def examples(self) -> int:
        return sum(len(inputs) for inputs, _ in self.batches)

    def whole(self) -> Case:
        """The same examples in one batch."""
        inputs, targets = (torch.cat(parts) for parts in zip(*self.batches, strict=True))
        return self._replace(batches=[(inputs, targets)])

    def hessian(self) -> HessianOperator:
        return HessianOperator(
            lambda x, y: self.criterion(self.module(x), y), self.module.parameters(), self.batches, at_once=False
        )

    def gauss_newton(self) -> GaussNewtonOperator:
        return GaussNewtonOperator(
            lambda x, y: self.module(x), lambda z, x, y: self.criterion(z, y), self.module.parameters(), self.batches
        )

    def fisher(self) -> FisherOperator:
        return FisherOperator(
            lambda x, y: self.module(x), lambda z, x, y: self.criterion(z, y), self.module.parameters(), self.batches
        )


def make(network: str, loss: str) -> Case:
    torch.manual_seed(0)
    module, shape = (small(OUTPUTS), (9, 5)) if network == "MLP" else (Conv().double().eval(), (9, 2, 4, 4))
    inputs = torch.randn(shape).double()
    labels, values = torch.randint(OUTPUTS, (9,)), torch.randn(9, OUTPUTS).double()
    criterion, targets = (nn.CrossEntropyLoss(), labels) if loss == "cross-entropy" else (nn.MSELoss(), values)
    return Case(module, criterion, [(inputs[:6], targets[:6]), (inputs[6:], targets[6:])])


@pytest.fixture(params=["MLP", "convolution"])
def network(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["cross-entropy", "squared error"])
def case(network: str, request: pytest.FixtureRequest) -> Case:
    return make(network, request.param)


def theirs(kind: Callable[..., Any], case: Case) -> Any:
    """An operator of curvlinops."""
    return kind(case.module, case.criterion, list(case.module.parameters()), case.batches)


def matrix(operator: Any) -> Tensor:
    """The matrix of an operator of curvlinops: (n, n), in torch, as its operators multiply tensors by `@`."""
    found: Tensor = operator @ torch.eye(operator.shape[0], dtype=operator.dtype)
    return found


def columns(operator: Any) -> Tensor:
    """The matrix of an operator of hessian-eigenthings, which has `size` and `matvec`, but no `shape`: (n, n)."""
    eye = torch.eye(operator.size, dtype=operator.dtype)
    return torch.stack([operator.matvec(v).detach() for v in eye], dim=1)  # its products keep a graph


def difference(found: Tensor, wanted: Tensor) -> float:
    """Relative, in the Frobenius norm."""
    assert found.shape == wanted.shape
    return float((found - wanted).norm() / wanted.norm())


def trace(operator: SymmetricOperator) -> float:
    """The exact trace: the sum of e_i^T A e_i."""
    eye = torch.eye(operator.shape[0], dtype=operator.dtype)
    return sum(float(operator.matvec(v) @ v) for v in eye)


def test_hessian_and_gauss_newton_are_those_of_curvlinops(curvlinops: Any, case: Case) -> None:
    hessian = matrix(theirs(curvlinops.HessianLinearOperator, case))
    gauss_newton = matrix(theirs(curvlinops.GGNLinearOperator, case))
    assert difference(dense(case.hessian()), hessian) < ROUNDING
    assert difference(dense(case.gauss_newton()), gauss_newton) < ROUNDING
    assert difference(gauss_newton, hessian) > 0.1  # neither stands for the other


def test_a_layers_block_is_that_of_curvlinops(curvlinops: Any, network: str) -> None:
    case = make(network, "cross-entropy")
    layer = list(case.module.parameters())[-2:]
    found = HessianOperator(lambda x, y: case.criterion(case.module(x), y), layer, case.batches)
    wanted = curvlinops.HessianLinearOperator(case.module, case.criterion, layer, case.batches)
    assert difference(dense(found), matrix(wanted)) < ROUNDING


def test_the_fisher_of_the_cross_entropy_is_that_of_curvlinops(curvlinops: Any, network: str) -> None:
    case = make(network, "cross-entropy")
    assert difference(dense(case.fisher()), matrix(theirs(curvlinops.EFLinearOperator, case))) < ROUNDING


def test_the_fisher_of_the_squared_error_differs_by_the_number_of_outputs(curvlinops: Any, network: str) -> None:
    """MSELoss divides by examples times outputs. Ours takes all of it into each example's loss, 1/C |z - y|^2, as its
    definition says: F = 1/N sum_i g_i g_i^T. curvlinops takes |z - y|^2 as the loss of an example and 1/(N C) as the
    weight of its outer product, so its matrix is C times ours.
    """
    case = make(network, "squared error")
    assert difference(dense(case.fisher()) * OUTPUTS, matrix(theirs(curvlinops.EFLinearOperator, case))) < ROUNDING


def test_the_gradient_is_that_of_curvlinops(curvlinops: Any, case: Case) -> None:
    pieces, _ = theirs(curvlinops.HessianLinearOperator, case).gradient_and_loss()
    assert difference(case.hessian().gradient(), torch.cat([piece.flatten() for piece in pieces])) < ROUNDING


def test_the_exact_trace_is_that_of_hutch_plus_plus_where_that_is_exact(curvlinops: Any, network: str) -> None:
    """Hutch++ (curvlinops has no exact trace) takes the trace in the range of its sketch exactly, and estimates the rest.

    With 33 vectors in the sketch, the range of a matrix of rank 27 lies in it: 9 examples with 4 outputs whose softmax has
    one degree of freedom less. The empirical Fisher has rank 9.
    """
    case = make(network, "cross-entropy")
    for ours, kind in (
        (case.gauss_newton(), curvlinops.GGNLinearOperator),
        (case.fisher(), curvlinops.EFLinearOperator),
    ):
        found = float(curvlinops.hutchpp_trace(theirs(kind, case), num_matvecs=99))
        assert trace(ours) == pytest.approx(found, rel=1e-10)


def test_the_exact_trace_of_the_hessian_lies_in_the_spread_of_curvlinops_estimate(curvlinops: Any, case: Case) -> None:
    """Hutchinson's estimate from signs has the variance 2 (|H|_F^2 - sum_i H_ii^2) / vectors."""
    vectors = 100  # curvlinops takes fewer than the 106 parameters only
    operator = theirs(curvlinops.HessianLinearOperator, case)
    exact = matrix(operator)
    spread = float((2 * (exact.square().sum() - exact.diagonal().square().sum()) / vectors).sqrt())
    torch.manual_seed(1)
    estimate = float(curvlinops.hutchinson_trace(operator, num_matvecs=vectors))
    assert trace(case.hessian()) == pytest.approx(float(exact.trace()), rel=1e-10)
    assert abs(trace(case.hessian()) - estimate) < 3 * spread


@pytest.mark.parametrize(("network", "loss"), EACH_ONCE)
def test_our_methods_take_the_scipy_interface_of_curvlinops(curvlinops: Any, network: str, loss: str) -> None:
    case = make(network, loss)
    ours = case.hessian()
    operator = theirs(curvlinops.HessianLinearOperator, case)
    with pytest.raises(TypeError, match="neither a matrix nor an operator"):
        as_operator(operator)  # it multiplies by @ and has no matvec
    foreign = operator.to_scipy(dtype=np.float64)
    found, wanted = hutchinson(foreign, 5), hutchinson(ours, 5)
    assert (found.trace, found.frobenius) == pytest.approx((wanted.trace, wanted.frobenius), rel=1e-10)
    for solver in (lanczos, deflated_power_iteration):
        one, other = (solver(each, 3, tolerance=1e-7, max_products=2000) for each in (foreign, ours))
        assert one.converged.all() and other.converged.all()
        assert torch.allclose(one.eigenvalues, other.eigenvalues, rtol=1e-10)


def eigenthings_operators(eigenthings: Any, case: Case, weighted: bool) -> list[Any]:
    """Its Hessian, Gauss-Newton and Fisher operators.

    weighted: multiply the loss of each batch by its share of the examples times the number of batches, which turns its
    mean over batches into the mean over examples. Not for the Fisher, which would square the factor.
    """
    share = len(case.batches) / case.examples

    def criterion(outputs: Tensor, targets: Tensor) -> Tensor:
        value: Tensor = case.criterion(outputs, targets)
        return value * (len(outputs) * share) if weighted else value

    return [
        eigenthings.HessianOperator(case.module, case.batches, eigenthings.supervised_loss(criterion)),
        eigenthings.GGNOperator(
            case.module,
            case.batches,
            eigenthings.supervised_forward,
            eigenthings.supervised_loss_of_output(criterion),
        ),
        eigenthings.EmpiricalFisherOperator(
            case.module, case.batches, eigenthings.supervised_per_sample_loss(case.criterion)
        ),
    ]


@pytest.mark.parametrize(("network", "loss"), EACH_ONCE)
def test_hessian_eigenthings_weighs_uneven_batches_alike(eigenthings: Any, network: str, loss: str) -> None:
    """It divides the sum over batches by the number of batches (`_matvec_full` of each of its operators), so that an
    example of a small batch counts for more: 14 % of the Hessian here. Ours is the mean over the examples.
    """
    case = make(network, loss)
    ours = [case.hessian(), case.gauss_newton(), case.fisher()]
    parts = [
        (part.hessian(), part.gauss_newton(), part.fisher())
        for part in (case._replace(batches=[batch]) for batch in case.batches)
    ]
    for operator, mean, first, second in zip(
        eigenthings_operators(eigenthings, case, weighted=False), ours, *parts, strict=True
    ):
        found = columns(operator)
        assert difference(found, (dense(first) + dense(second)) / 2) < ROUNDING
        assert difference(found, dense(mean)) > 0.01


def test_all_three_matrices_are_those_of_hessian_eigenthings_once_batches_are_weighted(
    eigenthings: Any, case: Case
) -> None:
    hessian, gauss_newton, _ = eigenthings_operators(eigenthings, case, weighted=True)
    *_, fisher = eigenthings_operators(eigenthings, case.whole(), weighted=False)
    for found, wanted in (
        (case.hessian(), hessian),
        (case.gauss_newton(), gauss_newton),
        (case.fisher(), fisher),
    ):
        assert difference(dense(found), columns(wanted)) < ROUNDING


def test_the_largest_eigenpairs_are_those_of_hessian_eigenthings(eigenthings: Any, network: str) -> None:
    """Its power iteration, like ours, stops at a relative residual r, but of the deflated operator. That leaves an error
    of about r^2 in an eigenvalue and of r |lambda| / gap in a vector, and the inexact pairs that are deflated add as much:
    10 r has room for gaps down to a fifth of lambda. Its Lanczos takes as many steps as it is told: with one for each
    parameter and reorthogonalisation only rounding is left.
    """
    case = make(network, "cross-entropy")
    operator, *_ = eigenthings_operators(eigenthings, case, weighted=True)
    r = 1e-7
    power = eigenthings.deflated_power_iteration(operator, k=3, max_iter=5000, tol=r, seed=0)
    complete = eigenthings.lanczos(operator, k=3, max_iter=operator.size, tol=1e-10, reorthogonalize=True, seed=0)
    for solver in (lanczos, deflated_power_iteration):
        ours = solver(case.hessian(), 3, tolerance=1e-10, max_products=3000)
        assert ours.converged.all()
        for found, tolerance in ((power, 10 * r), (complete, 1e-9)):
            assert found.converged.all()
            assert torch.allclose(ours.eigenvalues, found.eigenvalues, rtol=1e-9, atol=0)
            overlap = (found.eigenvectors @ ours.eigenvectors).abs()  # its eigenvectors are rows
            assert torch.allclose(overlap, torch.eye(3, dtype=overlap.dtype), atol=tolerance)
