"""The implicitly restarted Lanczos iteration of ARPACK, by SciPy's eigsh, with results judged by true residuals."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .adapters import as_operator
from .operator import SymmetricOperator, product, products
from .power import deflated_power_iteration
from .result import EigenResult, Report, Which, check_request, judged

#: Krylov vectors between restarts: SciPy's default, and enough for a few well separated pairs.
BASIS = 20


def lanczos(
    operator: Any,
    k: int,
    *,
    tolerance: float = 1e-3,
    max_products: int = 500,
    which: Which = "magnitude",
    seed: int = 0,
    start: Tensor | None = None,
    basis: int = BASIS,
    report: Report = lambda pair, residual: None,
) -> EigenResult:
    """Find the k largest eigenpairs of an operator by Lanczos.

    An operator with n <= max(2 k + 1, `basis`) is written out as a matrix and solved densely. Otherwise all comes from one
    start vector: of an eigenvalue that is there several times, copies may be missed, and smaller pairs returned as
    converged in their place. `deflated_power_iteration` looks for what it has missed.

    Args:
        operator: Whatever `as_operator` accepts, (n, n).
        k: Number of eigenpairs, in 1..n.
        tolerance: Relative residual |H v - lambda v| / |lambda| at which a pair has converged.
        max_products: Products per pair: up to k times as many are made in all (more only for the first restart, which
            is always made). Pairs that have not converged by then are returned as not converged, for which up to
            k (k + 3) / 2 products more complete and judge the result.
        which: The largest by "magnitude", or the "algebraic" largest.
        seed: Seed of the start vector.
        start: (n, m) vectors whose sum is the start vector instead, such as the eigenvectors of a similar operator.
        basis: Number of Krylov vectors between restarts; at least 2 k + 1 are used.
        report: Called once with k - 1 and the largest relative residual, if ARPACK has found all pairs.

    Returns:
        The pairs, the largest first, judged by their residuals against `operator`.

    Raises:
        ValueError: if k is not an integer in 1..n, if `start` is not (n, m), if `which` or `tolerance` is neither of what
            they may be, or if the operator is not square.
        TypeError: if `as_operator` does not accept `operator`.
        FloatingPointError: if a product has NaN or infinity in it.
    """
    from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh

    operator = as_operator(operator)
    check_request(operator, k, start, which, tolerance)
    size = operator.shape[0]
    basis = max(2 * k + 1, basis)
    if size <= basis:
        return _dense(operator, k, which, tolerance)
    used = 0

    def matvec(v: np.ndarray) -> np.ndarray:
        nonlocal used
        used += 1
        image = product(operator, torch.from_numpy(np.ascontiguousarray(v.reshape(-1))).to(operator.device))
        array: np.ndarray = image.cpu().numpy()
        return array

    kind = np.float32 if operator.dtype == torch.float32 else np.float64
    wrapped = LinearOperator(operator.shape, matvec=matvec, dtype=kind)
    # SciPy draws anew where the start vector's subspace is exhausted; before it took a generator, NumPy's global one did.
    seeded = {"rng": np.random.default_rng(seed)} if "rng" in inspect.signature(eigsh).parameters else {}
    restarts = max(1, (max_products * k - basis - k) // (basis - k))
    try:
        values, vectors = eigsh(
            wrapped,
            k,
            which="LM" if which == "magnitude" else "LA",
            v0=_start(operator, seed, start).astype(kind),
            ncv=basis,
            maxiter=restarts,
            tol=tolerance / 2,  # bounds ARPACK's own estimate of the residual; half is left for rounding
            **seeded,
        )
    except ArpackNoConvergence as unfinished:
        values, vectors = unfinished.eigenvalues, unfinished.eigenvectors
    except ArpackError:  # ARPACK gives up on an operator of zeros
        result = deflated_power_iteration(
            operator, k, tolerance=tolerance, max_products=max_products, which=which, seed=seed, report=report
        )
        return replace(result, matvecs=used + result.matvecs)
    found = torch.as_tensor(np.asarray(vectors)).to(dtype=operator.dtype, device=operator.device)
    if len(values) < k:
        return _completed(operator, found, k, which, tolerance, seed, used)
    at = torch.as_tensor(np.asarray(values)).to(found)
    order = _order(at, which)
    found, at = found[:, order], at[order]
    result = judged(found, products(operator, found), at, tolerance, used + k)
    report(k - 1, float(result.relative_residuals.max()))
    return result


def _start(operator: SymmetricOperator, seed: int, start: Tensor | None) -> np.ndarray:
    if start is not None and start.shape[1]:
        given: np.ndarray = start.detach().double().sum(dim=1).cpu().numpy()
        if np.any(given):
            return given
    draw: np.ndarray = torch.randn(
        operator.shape[0], generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).numpy()
    return draw


def _order(values: Tensor, which: Which) -> Tensor:
    return torch.argsort(values.abs() if which == "magnitude" else values, descending=True, stable=True)


def _dense(operator: SymmetricOperator, k: int, which: Which, tolerance: float) -> EigenResult:
    size = operator.shape[0]
    matrix = products(operator, torch.eye(size, dtype=operator.dtype, device=operator.device))
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    order = _order(values, which)[:k]
    return judged(vectors[:, order], matrix @ vectors[:, order], values[order], tolerance, size)


def _completed(
    operator: SymmetricOperator, found: Tensor, k: int, which: Which, tolerance: float, seed: int, used: int
) -> EigenResult:
    """The pairs that ARPACK has finished, and for each missing one the best that a single random vector gives.

    The missing pairs are not improved, and are reported as not converged. To add and to judge them takes a product for each
    pair at each of them.
    """
    result = deflated_power_iteration(
        operator, k, tolerance=tolerance, max_products=0, which=which, seed=seed, start=found
    )
    return replace(result, matvecs=used + result.matvecs)
