"""Trace and Frobenius norm of a symmetric operator, each with its standard error."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .adapters import as_operator
from .density import SpectralDensity
from .operator import product


@dataclass(frozen=True)
class Moments:
    """Estimates of tr(H) and |H|_F from random probes.

    Attributes:
        trace: tr(H), the sum of all eigenvalues.
        trace_error: Its standard error; None with one probe.
        frobenius: |H|_F, the root of the sum of all squared eigenvalues.
        frobenius_error: Its standard error to first order; None with one probe.
        matvecs: Products that were used.
    """

    trace: float
    trace_error: float | None
    frobenius: float
    frobenius_error: float | None
    matvecs: int


def hutchinson(
    operator: Any, probes: int, *, seed: int = 0, report: Callable[[int], None] = lambda product: None
) -> Moments:
    """Estimate trace and Frobenius norm from products with random vectors of signs.

        tr(H) = E[v^T H v],    |H|_F^2 = E[|H v|^2],    v_i = +-1 with equal probability      (Hutchinson 1989)

    Args:
        operator: Whatever `as_operator` takes.
        probes: Number of random vectors, at least 1; each takes one product.
        seed: Of the vectors.
        report: Called with the number of products so far.

    Raises:
        ValueError: if there is no probe.
        FloatingPointError: if a product has NaN or infinity in it.
    """
    operator = as_operator(operator)
    if probes < 1:
        raise ValueError(f"probes must be at least 1, got {probes}")
    generator = torch.Generator().manual_seed(seed)
    traces, squares = [], []
    for probe in range(probes):
        signs = torch.randint(0, 2, (operator.shape[0],), generator=generator) * 2 - 1
        v = signs.to(dtype=operator.dtype, device=operator.device)
        image = product(operator, v)
        traces.append(float(v.double() @ image.double()))
        squares.append(float(image.double() @ image.double()))
        report(probe + 1)
    return _moments(traces, squares, probes)


def density_moments(density: SpectralDensity, size: int) -> Moments:
    """Take trace and Frobenius norm from a spectral density, which costs no further product.

        tr(H) = n E[ sum_j w_j x_j ],    |H|_F^2 = n E[ sum_j w_j x_j^2 ]

    over its probes, with nodes x and weights w. Both are exact for each probe from two steps on, as a Gauss quadrature
    with m nodes integrates polynomials of degree 2 m - 1.

    Args:
        density: Of an operator of shape (size, size), with at least two steps, or of size 1.
        size: n.
    """
    first = (density.weights * density.nodes).sum(dim=1) * size
    second = (density.weights * density.nodes**2).sum(dim=1) * size
    return _moments(first.tolist(), second.tolist(), density.matvecs)


def _moments(traces: Sequence[float], squares: Sequence[float], matvecs: int) -> Moments:
    trace, trace_error = _mean(traces)
    square, square_error = _mean(squares)
    frobenius = math.sqrt(square)
    # The error of a root is that of its square divided by twice the root.
    error = square_error / (2 * frobenius) if square_error is not None and frobenius > 0 else square_error
    return Moments(trace, trace_error, frobenius, error, matvecs)


def _mean(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard error."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))
