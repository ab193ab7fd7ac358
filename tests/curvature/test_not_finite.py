"""NaN ends a computation at once: ARPACK goes on with it for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.curvature import (
    HessianOperator,
    deflated_power_iteration,
    hutchinson,
    lanczos,
    published_power_iteration,
    spectral_density,
)


def broken(value: float) -> HessianOperator:
    """A Hessian, too large to be written out, of a network with one weight that is no number."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 4))
    last = model[2]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias[0] = value
    images, labels = torch.randn(20, 9), torch.randint(4, (20,))
    return HessianOperator(lambda a, b: F.cross_entropy(model(a), b), model.parameters(), [(images, labels)])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "method",
    [
        lambda operator: lanczos(operator, 3),
        lambda operator: deflated_power_iteration(operator, 3),
        lambda operator: published_power_iteration(operator, 3),
        lambda operator: hutchinson(operator, 3),
        lambda operator: spectral_density(operator, probes=2, steps=5),
    ],
    ids=["lanczos", "power", "published", "hutchinson", "density"],
)
def test_a_product_that_is_not_finite_ends_every_method(method: Callable[[Any], object], value: float) -> None:
    with pytest.raises(FloatingPointError, match="a product with the matrix is not finite"):
        method(broken(value))


def test_batches_may_come_from_a_generator_but_not_be_tensors() -> None:
    model, images, labels = nn.Linear(3, 2), torch.randn(8, 3), torch.randint(2, (8,))

    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(model(a), b)

    whole = HessianOperator(loss, model.parameters(), [(images, labels)])
    parts = HessianOperator(loss, model.parameters(), ((images[i : i + 3], labels[i : i + 3]) for i in (0, 3, 6)))
    v = torch.randn(8)
    assert parts.examples == 8
    torch.testing.assert_close(parts.matvec(v), whole.matvec(v))
    with pytest.raises(TypeError, match=r"a single one is \[\(images, labels\)\]"):
        HessianOperator(loss, model.parameters(), (images, labels))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"parameters must be tensors, as model\.parameters\(\) gives them"):
        HessianOperator(loss, model.named_parameters(), [(images, labels)])  # type: ignore[arg-type]
