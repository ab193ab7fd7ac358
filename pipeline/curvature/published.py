"""The procedure that the Stable SGD paper's code used, for comparison: its values are not to be trusted.

It stops on the change of lambda, or after 18 products, and never looks at a residual; each pair starts from the last one's
vector, which has just been deflated away. What it gives is measured here by true residuals.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.curvature.operator import SymmetricOperator, products
from pipeline.curvature.result import EigenResult, Report, judged

STEPS = 18
CHANGE = 1e-5


def published_power_iteration(
    operator: SymmetricOperator,
    k: int,
    *,
    steps: int = STEPS,
    change: float = CHANGE,
    tolerance: float = 1e-3,
    seed: int = 0,
    report: Report = lambda pair, residual: None,
) -> EigenResult:
    """k pairs of `operator`, one after the other, each on the operator less lambda v v^T of those before.

    steps: products a pair at most. change: the relative change of lambda to stop at. tolerance: of the relative residual,
    by which alone the pairs are called converged. seed: of the first start vector (even numbers in 0..1, as published).
    The products that judge the result are not counted as used.
    """
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
        report(pair, float("nan"))  # the procedure knows no residual
    stacked, at = torch.stack(vectors, dim=1), torch.stack(values)
    return judged(stacked / torch.linalg.vector_norm(stacked, dim=0), products(operator, stacked), at, tolerance, used)
