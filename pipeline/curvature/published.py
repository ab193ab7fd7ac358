"""The procedure of the Stable SGD paper's code, for comparison only: its eigenvalues are not to be trusted.

It stops when lambda changes little, or after 18 products, and never looks at a residual. Each pair starts from the
vector of the last pair, which has just been deflated away. The results are judged here by true residuals.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .adapters import as_operator
from .operator import products
from .result import EigenResult, Report, check_request, judged

#: Most products per pair, as in the published code.
STEPS = 18
#: Relative change of lambda at which the published code stops.
CHANGE = 1e-5


def published_power_iteration(
    operator: Any,
    k: int,
    *,
    steps: int = STEPS,
    change: float = CHANGE,
    tolerance: float = 1e-3,
    seed: int = 0,
    report: Report = lambda pair, residual: None,
) -> EigenResult:
    """Find k pairs one after the other, each on the operator minus lambda v v^T of the pairs before.

        x <- H' x / |H' x|,    H' = H - sum over earlier pairs of lambda v v^T

    Args:
        operator: H, whatever `as_operator` accepts, (n, n).
        k: Number of pairs, in 1..n.
        steps: Most products per pair.
        change: Relative change of lambda at which a pair stops.
        tolerance: Relative residual up to which a pair is reported as converged; it does not influence the iteration.
        seed: Seed of the first start vector, whose entries are uniform in [0, 1), as in the published code.
        report: Called for each pair with its number (from 0) and NaN, since the procedure computes no residual.

    Returns:
        The pairs by their signed values, the largest first, as the published code returns them. The products that judge
        them are not counted in `matvecs`.

    Raises:
        ValueError: if k is not an integer in 1..n, if `tolerance` is negative or NaN, or if the operator is not square.
        TypeError: if `as_operator` does not accept `operator`.
        FloatingPointError: if a product has NaN or infinity in it.
    """
    operator = as_operator(operator)
    check_request(operator, k, None, "magnitude", tolerance)
    generator = torch.Generator().manual_seed(seed)
    v = torch.rand(operator.shape[0], generator=generator, dtype=torch.float64)
    v = v.to(dtype=operator.dtype, device=operator.device)
    vectors: list[Tensor] = []
    values: list[Tensor] = []
    used = 0
    for pair in range(k):
        before = torch.zeros((), dtype=operator.dtype, device=operator.device)
        for _ in range(steps):
            image = operator.matvec(v)
            used += 1
            for value, vector in zip(values, vectors, strict=True):
                image = image - value * (vector @ v) * vector
            estimate = v @ image
            length = torch.linalg.vector_norm(image)
            moved = (estimate - before).abs() / estimate.abs().clamp_min(torch.finfo(v.dtype).tiny)
            if length > 0:
                v = image / length
            before = estimate
            if moved < change:
                break
        vectors.append(v)
        values.append(before)
        report(pair, float("nan"))  # the procedure computes no residual
    stacked, at = torch.stack(vectors, dim=1), torch.stack(values)
    order = torch.argsort(at, descending=True, stable=True)
    stacked, at = stacked[:, order], at[order]
    return judged(stacked / torch.linalg.vector_norm(stacked, dim=0), products(operator, stacked), at, tolerance, used)
