"""Deflated power iteration that can be trusted: one eigenpair after the other, each judged by its residual.

Plain power iteration keeps only the vector H x of all that a product shows. It never settles where two eigenvalues have
the same size and opposite signs, it creeps where they are close, and its usual stopping rule (lambda changes little)
notices neither. Here every step still costs one product, and takes by a Rayleigh-Ritz step the best vectors of the span
of

    the pairs so far, x, the residual H x - lambda x, and the direction of the last step

(the locally optimal iteration of Knyazev 2001, without a preconditioner). The residual of the current pair is kept
orthogonal to the pairs found before it, which deflates them; since those pairs stay in the span, they improve with
every step too. A pair has converged when |H v - lambda v| <= tolerance |lambda| with the undeflated H.

A small residual says that a pair is an eigenpair, and not that no larger one exists: the iteration follows the end of the
spectrum that its start vector happens to lean to. Once all pairs have converged, a short Lanczos run in the orthogonal
complement of their vectors looks for a larger eigenvalue at either end. If there is one, it takes the place of the
smallest pair, and the run is repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .adapters import as_operator
from .operator import SymmetricOperator, product, products
from .result import EigenResult, Report, Which, check_request, judged, length, relative_residuals, rounding

#: Steps, at most, of the search for larger eigenvalues than those found. It ends when the Ritz values at the ends of the
#: spectrum have a relative residual of SETTLED.
LOOKS, SETTLED = 40, 0.05


def deflated_power_iteration(
    operator: Any,
    k: int,
    *,
    tolerance: float = 1e-3,
    max_products: int = 500,
    which: Which = "magnitude",
    seed: int = 0,
    start: Tensor | None = None,
    report: Report = lambda pair, residual: None,
) -> EigenResult:
    """Find the k largest eigenpairs of an operator, one after the other.

    `pipeline.curvature.power` describes the iteration.

    Args:
        operator: Whatever `as_operator` accepts, (n, n).
        k: Number of eigenpairs, in 1..n.
        tolerance: Relative residual |H v - lambda v| / |lambda| at which a pair has converged.
        max_products: Products to spend on each pair, those that begin with `start` together on as many times as much;
            those that start and verify it, and the search for larger ones after it, come on top: with each pair all
            before it are verified anew, which is k (k + 1) / 2 products in all. A pair that needs more is returned as not
            converged.
        which: The largest by "magnitude", or the "algebraic" largest.
        seed: Seed of the start vectors.
        start: (n, m) vectors to start from, such as the eigenvectors of a similar operator; the first k are used, and
            random vectors follow if there are fewer.
        report: Called at each step with the number of the current pair (from 0) and the largest relative residual of
            the pairs so far.

    Returns:
        The pairs, the largest first, judged by their residuals against `operator`.

    Raises:
        ValueError: if k is not an integer in 1..n, if `start` is not (n, m), if `which` or `tolerance` is neither of what
            they may be, or if the operator is not square.
        TypeError: if `as_operator` does not accept `operator`.
        FloatingPointError: if a product has NaN or infinity in it.
    """
    operator = as_operator(operator)
    check_request(operator, k, start, which, tolerance)
    search = _Search(operator, tolerance, which, seed)
    if start is not None:
        search.begin_with(start[:, :k])
    started = search.vectors.shape[1]
    for pair in range(max(0, started - 1), k):
        if search.vectors.shape[1] == pair:
            search.add_pair()
        search.improve(max_products * (started if pair == started - 1 else 1), partial(report, pair))
    for _ in range(k):
        missed = search.missed()
        if missed is None:
            break
        search.replace_smallest(missed, max_products, partial(report, k - 1))
    return search.result()


class _Search:
    """The state of the iteration.

    vectors: (n, m) orthonormal Ritz vectors; products: H times them; values: (m,) their Ritz values, wanted ones first.
    """

    def __init__(self, operator: SymmetricOperator, tolerance: float, which: Which, seed: int) -> None:
        self.operator, self.tolerance, self.which = operator, tolerance, which
        self.generator = torch.Generator().manual_seed(seed)
        self.vectors = torch.zeros(operator.shape[0], 0, dtype=operator.dtype, device=operator.device)
        self.products = self.vectors.clone()
        self.values = torch.zeros(0, dtype=operator.dtype, device=operator.device)
        self.matvecs = 0

    def multiply(self, v: Tensor) -> Tensor:
        self.matvecs += 1
        return product(self.operator, v)

    def multiply_all(self, vectors: Tensor) -> Tensor:
        self.matvecs += vectors.shape[1]
        return products(self.operator, vectors)

    def begin_with(self, start: Tensor) -> None:
        """Take the linearly independent part of the given vectors as the first pairs."""
        for v in start.detach().to(self.vectors).unbind(1):
            independent = _orthogonal(v, self.vectors)
            if independent is not None:
                self.vectors = torch.cat([self.vectors, independent[:, None]], dim=1)
        self.products = self.multiply_all(self.vectors)
        if self.vectors.shape[1]:
            self._rotate(self.vectors, self.products)

    def add_pair(self) -> None:
        """Add a pair that starts from a random unit vector orthogonal to those found."""
        start = self._start()
        self.vectors = torch.cat([self.vectors, start[:, None]], dim=1)
        self.products = torch.cat([self.products, self.multiply(start)[:, None]], dim=1)
        self._rotate(self.vectors, self.products)

    def _start(self) -> Tensor:
        """A random unit vector orthogonal to those found."""
        while True:
            draw = torch.randn(self.vectors.shape[0], generator=self.generator, dtype=torch.float64)
            start = _orthogonal(draw.to(self.vectors), self.vectors)
            if start is not None:
                return start

    def improve(self, max_products: int, report: Callable[[float], None]) -> None:
        """Iterate until every pair has converged or `max_products` are spent; then verify by true products."""
        direction: tuple[Tensor, Tensor] | None = None
        spent, fresh = 0, False
        while True:
            residuals = self.products - self.vectors * self.values
            lengths = length(residuals)
            relative = relative_residuals(lengths, self.values)
            # Where only rounding errors are left, no product helps, whatever the tolerance.
            waiting = torch.nonzero((relative > self.tolerance) & (lengths > rounding(self.values))).flatten().tolist()
            report(float(relative.max()))
            if not waiting or spent >= max_products:
                if fresh:
                    return
                # Products that were only combined from earlier ones gather rounding errors: judge by true ones.
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

    def missed(self) -> Tensor | None:
        """Look for an eigenvalue that should have been among those found, by Lanczos in the complement of their vectors.

        Returns:
            The unit Ritz vector of a larger one; None if the ends of the spectrum there have settled, or if the pairs
            have not converged, which says enough.
        """
        size, found = self.vectors.shape
        if found == size:
            return None
        lengths = length(self.products - self.vectors * self.values)
        if bool(
            ((relative_residuals(lengths, self.values) > self.tolerance) & (lengths > rounding(self.values))).any()
        ):
            return None
        least = float(self._size(self.values).min())
        beyond = least + max(2 * self.tolerance * abs(least), float(rounding(self.values)))
        basis = self.vectors
        diagonal: list[float] = []
        beside: list[float] = []
        v = self._start()
        for _ in range(min(LOOKS, size - found)):
            image = self.multiply(v)
            basis = torch.cat([basis, v[:, None]], dim=1)
            diagonal.append(float(v.double() @ image.double()))
            matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
            matrix += torch.diag(torch.tensor(beside, dtype=torch.float64), 1)
            matrix += torch.diag(torch.tensor(beside, dtype=torch.float64), -1)
            values, mixtures = torch.linalg.eigh(matrix)
            best = int(self._size(values).argmax())
            if float(self._size(values)[best]) > beyond:
                ritz: Tensor = basis[:, found:] @ mixtures[:, best].to(basis)
                return ritz
            for _ in range(2):
                image = image - basis @ (basis.T @ image)
            rest = float(length(image))
            ends = [0, -1] if self.which == "magnitude" else [-1]
            if all(rest * abs(float(mixtures[-1, end])) <= SETTLED * abs(float(values[end])) for end in ends):
                return None
            if not rest > float(rounding(self.values)):
                return None  # the run has seen all that its start vector reaches
            v = image / rest
            beside.append(rest)
        return None

    def replace_smallest(self, v: Tensor, max_products: int, report: Callable[[float], None]) -> None:
        """Iterate with one more pair that starts from v, orthogonal to those found, and drop the smallest afterwards."""
        found = self.vectors.shape[1]
        self.vectors = torch.cat([self.vectors, v[:, None]], dim=1)
        self.products = torch.cat([self.products, self.multiply(v)[:, None]], dim=1)
        self._rotate(self.vectors, self.products)
        self.improve(max_products, report)
        self.vectors, self.products, self.values = (
            self.vectors[:, :found], self.products[:, :found], self.values[:found],
        )  # fmt: skip

    def _size(self, values: Tensor) -> Tensor:
        """What makes an eigenvalue large."""
        return values.abs() if self.which == "magnitude" else values

    def _rotate(self, basis: Tensor, images: Tensor) -> Tensor:
        """Rayleigh-Ritz on an orthonormal basis: keep the wanted Ritz pairs; return their coefficients."""
        keep = self.vectors.shape[1]
        projected = (basis.T @ images).double().cpu()
        values, mixtures = torch.linalg.eigh((projected + projected.T) / 2)
        order = torch.argsort(self._size(values), descending=True, stable=True)[:keep]
        mixture: Tensor = mixtures[:, order].to(basis)
        self.values = values[order].to(basis)
        self.vectors, self.products = basis @ mixture, images @ mixture
        return mixture

    def _direction(self, basis: Tensor, images: Tensor, mixture: Tensor) -> tuple[Tensor, Tensor] | None:
        """The unit direction in which a pair has moved, and its product with H; None if it is rounding error.

        It is what the new vectors took from outside the old ones, made orthogonal to the new ones.
        """
        keep = self.vectors.shape[1]
        move, image = basis[:, keep:] @ mixture[keep:], images[:, keep:] @ mixture[keep:]
        before = length(move)
        for _ in range(2):
            inside = self.vectors.T @ move
            move, image = move - self.vectors @ inside, image - self.products @ inside
        after = length(move)
        if not after > 1e-3 * before:  # little more than rounding error, and its image is even less accurate
            return None
        return move / after, image / after

    def result(self) -> EigenResult:
        return judged(self.vectors, self.products, self.values, self.tolerance, self.matvecs)


def _orthogonal(v: Tensor, basis: Tensor) -> Tensor | None:
    """The component of v outside the orthonormal `basis`, at unit length (Gram-Schmidt, twice).

    None if that component is rounding error.
    """
    for _ in range(2):
        before = length(v)
        v = v - basis @ (basis.T @ v)
        after = length(v)
        if not after > 10 * torch.finfo(v.dtype).eps * before:
            return None
        v = v / after
    return v
