"""Deflated power iteration that can be trusted: one pair after the other, each judged by its residual.

Plain power iteration keeps only H x of all that a product tells. It never settles where two eigenvalues have the same size
and opposite signs, creeps where they are close, and its usual stop (lambda changes little) cannot tell. Here every step
still costs one product, and takes the best vectors of the span of

    the pairs so far, x, the residual H x - lambda x, and the direction of the last step

by a Rayleigh-Ritz step (the locally optimal iteration of Knyazev 2001, without a preconditioner). The residual of the pair
in work is kept orthogonal to the pairs found before it, which deflates them; since the pairs themselves stay in the span,
they improve with every step too. A pair has converged when |H v - lambda v| <= tolerance |lambda| with the undeflated H.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pipeline.curvature.adapters import as_operator
from pipeline.curvature.operator import SymmetricOperator, products
from pipeline.curvature.published import published_power_iteration
from pipeline.curvature.result import EigenResult, Report, Which, check_request, judged, relative_residuals, rounding


def deflated_power_iteration(
    operator: Any,
    k: int,
    *,
    tolerance: float = 1e-3,
    max_products: int = 500,
    which: Which = "magnitude",
    seed: int = 0,
    start: Tensor | None = None,
    published: bool = False,
    report: Report = lambda pair, residual: None,
) -> EigenResult:
    """The k eigenpairs of `operator` that are largest by magnitude, or algebraically.

    operator: whatever `as_operator` takes. tolerance: relative residual to reach. max_products: products a pair at most; a
    pair that needs more is returned as not converged. seed: of the start vectors. start: (n, m) vectors to begin with, such
    as the eigenvectors of a similar operator; random ones follow. published: the procedure of the published code instead,
    see `published_power_iteration`; `which`, `max_products` and `start` then mean nothing. report: called at each step with
    the pair's number (from 0) and its relative residual. Raises ValueError where k is not in 1..n, or `start` does not fit.
    """
    operator = as_operator(operator)
    check_request(operator, k, start)
    if published:
        return published_power_iteration(operator, k, tolerance=tolerance, seed=seed, report=report)
    search = _Search(operator, tolerance, which, seed)
    if start is not None:
        search.begin_with(start[:, :k])
    for pair in range(max(0, search.vectors.shape[1] - 1), k):
        if search.vectors.shape[1] == pair:
            search.add_pair()
        search.improve(max_products, partial(report, pair))
    return search.result()


class _Search:
    """vectors: (n, m) orthonormal Ritz vectors; products: H times them; values: (m,) their Ritz values, wanted first."""

    def __init__(self, operator: SymmetricOperator, tolerance: float, which: Which, seed: int) -> None:
        self.operator, self.tolerance, self.which = operator, tolerance, which
        self.generator = torch.Generator().manual_seed(seed)
        self.vectors = torch.zeros(operator.shape[0], 0, dtype=operator.dtype, device=operator.device)
        self.products = self.vectors.clone()
        self.values = torch.zeros(0, dtype=operator.dtype, device=operator.device)
        self.matvecs = 0

    def multiply(self, v: Tensor) -> Tensor:
        self.matvecs += 1
        return self.operator.matvec(v)

    def multiply_all(self, vectors: Tensor) -> Tensor:
        self.matvecs += vectors.shape[1]
        return products(self.operator, vectors)

    def begin_with(self, start: Tensor) -> None:
        """Take what is independent of the given vectors as the first pairs."""
        for v in start.detach().to(self.vectors).unbind(1):
            independent = _orthogonal(v, self.vectors)
            if independent is not None:
                self.vectors = torch.cat([self.vectors, independent[:, None]], dim=1)
        self.products = self.multiply_all(self.vectors)
        if self.vectors.shape[1]:
            self._rotate(self.vectors, self.products)

    def add_pair(self) -> None:
        """Start one more pair from a random unit vector that is orthogonal to those found."""
        start = None
        while start is None:
            draw = torch.randn(self.vectors.shape[0], generator=self.generator, dtype=torch.float64)
            start = _orthogonal(draw.to(self.vectors), self.vectors)
        self.vectors = torch.cat([self.vectors, start[:, None]], dim=1)
        self.products = torch.cat([self.products, self.multiply(start)[:, None]], dim=1)
        self._rotate(self.vectors, self.products)

    def improve(self, max_products: int, report: Callable[[float], None]) -> None:
        """Iterate until every pair has converged or `max_products` are spent."""
        direction: tuple[Tensor, Tensor] | None = None
        spent, fresh = 0, False
        while True:
            residuals = self.products - self.vectors * self.values
            lengths = torch.linalg.vector_norm(residuals, dim=0)
            relative = relative_residuals(lengths, self.values)
            # Where only rounding errors are left, no product helps, whatever the tolerance.
            waiting = torch.nonzero((relative > self.tolerance) & (lengths > rounding(self.values))).flatten().tolist()
            report(float(relative.max()))
            if not waiting or spent >= max_products:
                if fresh:
                    return
                # Products followed by arithmetic alone gather rounding errors: judge by true ones.
                self.products = self.multiply_all(self.vectors)
                self._rotate(self.vectors, self.products)
                spent += self.vectors.shape[1]
                fresh, direction = True, None
                continue
            pair = waiting[0]
            basis, images = self.vectors, self.products
            if direction is not None:
                basis = torch.cat([basis, direction[0][:, None]], dim=1)
                images = torch.cat([images, direction[1][:, None]], dim=1)
            step = _orthogonal(residuals[:, pair], basis)
            if step is None:
                if fresh:
                    return  # the residual is rounding error: nothing is left to gain
                spent = max_products
                continue
            basis = torch.cat([basis, step[:, None]], dim=1)
            images = torch.cat([images, self.multiply(step)[:, None]], dim=1)
            spent, fresh = spent + 1, False
            mixture = self._rotate(basis, images)
            direction = self._direction(basis, images, mixture[:, pair])

    def _rotate(self, basis: Tensor, images: Tensor) -> Tensor:
        """Rayleigh-Ritz on an orthonormal basis: keep the wanted Ritz pairs; return their coefficients."""
        keep = self.vectors.shape[1]
        projected = (basis.T @ images).double().cpu()
        values, mixtures = torch.linalg.eigh((projected + projected.T) / 2)
        order = torch.argsort(values.abs() if self.which == "magnitude" else values, descending=True, stable=True)[
            :keep
        ]
        mixture: Tensor = mixtures[:, order].to(basis)
        self.values = values[order].to(basis)
        self.vectors, self.products = basis @ mixture, images @ mixture
        return mixture

    def _direction(self, basis: Tensor, images: Tensor, mixture: Tensor) -> tuple[Tensor, Tensor] | None:
        """How the pair moved: what the new vectors took from outside the old ones, made orthogonal to the new ones."""
        keep = self.vectors.shape[1]
        move, image = basis[:, keep:] @ mixture[keep:], images[:, keep:] @ mixture[keep:]
        before = torch.linalg.vector_norm(move)
        for _ in range(2):
            inside = self.vectors.T @ move
            move, image = move - self.vectors @ inside, image - self.products @ inside
        length = torch.linalg.vector_norm(move)
        if not length > 1e-3 * before:  # little more than rounding error, and its image even less
            return None
        return move / length, image / length

    def result(self) -> EigenResult:
        return judged(self.vectors, self.products, self.values, self.tolerance, self.matvecs)


def _orthogonal(v: Tensor, basis: Tensor) -> Tensor | None:
    """The unit part of v outside the orthonormal `basis` (Gram-Schmidt, twice); None where that is rounding error."""
    for _ in range(2):
        before = torch.linalg.vector_norm(v)
        v = v - basis @ (basis.T @ v)
        length = torch.linalg.vector_norm(v)
        if not length > 10 * torch.finfo(v.dtype).eps * before:
            return None
        v = v / length
    return v
