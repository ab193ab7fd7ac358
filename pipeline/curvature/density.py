"""Spectral density by stochastic Lanczos quadrature (Golub and Welsch 1969; Ghorbani, Krishnan and Xiao 2019).

For a random unit vector v, m steps of Lanczos give a tridiagonal matrix T. The eigenvalues of T, and the squared first
components of its eigenvectors, are nodes and weights of a quadrature of the spectrum, in which each eigenvalue counts
by the square of v's component along its eigenvector. The mean over several v weights all eigenvalues evenly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .adapters import as_operator
from .operator import SymmetricOperator, products
from .result import length

#: Default bound, in bytes, for the Krylov vectors of the probes that run together.
MEMORY = 1 << 30


@dataclass(frozen=True)
class SpectralDensity:
    """A spectral density, as nodes and weights for each probe.

        density(x) = mean over probes of sum_j weights[probe, j] delta(x - nodes[probe, j])

    Attributes:
        nodes: (probes, steps), ascending in each row. A run that met an invariant subspace before its last step has
            nodes of 0 with weight 0 in place of those that are missing.
        weights: (probes, steps); each row sums to 1.
        matvecs: Number of products used.
    """

    nodes: Tensor
    weights: Tensor
    matvecs: int


def spectral_density(
    operator: Any,
    probes: int,
    steps: int,
    *,
    seed: int = 0,
    memory: int = MEMORY,
    report: Callable[[int], None] = lambda product: None,
) -> SpectralDensity:
    """Estimate the spectrum of an operator from random vectors.

        density(x) = mean over probes of sum_j weight_j delta(x - node_j)

    Every Krylov vector is made orthogonal to all before it, twice: without that, the largest eigenvalues would appear
    several times in float32.

    Args:
        operator: Whatever `as_operator` accepts, (n, n).
        probes: Number of random vectors.
        steps: Number of products per probe; cut to n if larger.
        seed: Seed of the random vectors.
        memory: Bytes that Krylov vectors may take. As many probes run together as fit, and at least one.
        report: Called with the number of products made so far.

    Returns:
        Nodes and weights, float64 on the CPU.

    Raises:
        ValueError: if `probes` or `steps` is below 1, or if the operator is not square.
        TypeError: if `as_operator` does not accept `operator`.
        FloatingPointError: if a product has NaN or infinity in it.
    """
    operator = as_operator(operator)
    if probes < 1 or steps < 1:
        raise ValueError(f"probes and steps must be at least 1, got {probes} and {steps}")
    steps = min(steps, operator.shape[0])
    generator = torch.Generator().manual_seed(seed)
    size = operator.shape[0] * steps * torch.finfo(operator.dtype).bits // 8
    together = max(1, min(probes, memory // size))
    parts: list[tuple[Tensor, Tensor]] = []
    for first in range(0, probes, together):
        count = min(together, probes - first)
        # One draw per probe, so that the numbers do not depend on how many probes run together.
        draw = torch.stack(
            [torch.randn(operator.shape[0], generator=generator, dtype=torch.float64) for _ in range(count)]
        )
        parts.append(_quadrature(operator, draw, steps, partial(_shifted, report, first * steps)))
    nodes, weights = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return SpectralDensity(nodes, weights, probes * steps)


def _shifted(report: Callable[[int], None], before: int, products: int) -> None:
    report(before + products)


def _quadrature(
    operator: SymmetricOperator, draw: Tensor, steps: int, report: Callable[[int], None]
) -> tuple[Tensor, Tensor]:
    """Run Lanczos from all rows of `draw`, (probes, n), side by side.

    Returns nodes and weights, (probes, steps), float64 on the CPU.
    """
    count, size = draw.shape
    v = draw.to(dtype=operator.dtype, device=operator.device)
    v = v / torch.linalg.vector_norm(v, dim=1, keepdim=True)
    basis = torch.zeros(count, steps, size, dtype=v.dtype, device=v.device)
    diagonal = torch.zeros(count, steps, dtype=torch.float64)
    beside = torch.zeros(count, steps, dtype=torch.float64)
    alive = torch.ones(count, dtype=torch.bool, device=v.device)
    scale = torch.zeros(count, dtype=v.dtype, device=v.device)
    for step in range(steps):
        basis[:, step] = v
        image = products(operator, v.T).T
        report((step + 1) * count)
        diagonal[:, step] = (v * image).sum(dim=1).double().cpu()
        scale = torch.maximum(scale, length(image, dim=1))
        known = [of[: step + 1].T for of in basis]
        for _ in range(2):
            image = torch.stack([one - of @ (of.T @ one) for one, of in zip(image, known, strict=True)])
        rest = length(image, dim=1)
        # A shorter remainder is rounding error: the run has exhausted the subspace that its start vector reaches.
        alive = alive & (rest > 100 * torch.finfo(v.dtype).eps * scale)
        beside[:, step] = torch.where(alive, rest, torch.zeros_like(rest)).double().cpu()
        v = torch.where(alive[:, None], image / rest.clamp_min(torch.finfo(v.dtype).tiny)[:, None], 0)
    matrix = torch.diag_embed(diagonal)
    matrix += torch.diag_embed(beside[:, :-1], offset=1) + torch.diag_embed(beside[:, :-1], offset=-1)
    nodes, vectors = torch.linalg.eigh(matrix)
    return nodes, vectors[:, 0] ** 2
