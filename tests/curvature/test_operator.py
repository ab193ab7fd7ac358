from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.curvature import HessianOperator, deflated_power_iteration
from pipeline.models.heads import TaskModel


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.manual_seed(0)


def small(outputs: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, outputs)).double()


def exact_hessian(module: nn.Module, images: Tensor, labels: Tensor, *extra: int) -> Tensor:
    """The dense Hessian by torch.func, independent of the operator: (n, n)."""
    names = [name for name, _ in module.named_parameters()]
    sizes = [parameter.numel() for parameter in module.parameters()]
    shapes = [parameter.shape for parameter in module.parameters()]

    def loss(flat: Tensor) -> Tensor:
        pieces = [piece.view(shape) for piece, shape in zip(torch.split(flat, sizes), shapes, strict=True)]
        return F.cross_entropy(
            torch.func.functional_call(module, dict(zip(names, pieces, strict=True)), (images, *extra)), labels
        )

    flat = torch.nn.utils.parameters_to_vector(module.parameters()).detach()
    hessian: Tensor = torch.func.hessian(loss)(flat)
    return hessian


def dense(operator: HessianOperator) -> Tensor:
    return torch.stack([operator.matvec(v) for v in torch.eye(operator.shape[0], dtype=operator.dtype)], dim=1)


@pytest.mark.parametrize("retain", [True, False])
def test_products_are_those_of_the_exact_hessian(retain: bool) -> None:
    module, images, labels = small(), torch.randn(12, 5).double(), torch.randint(4, (12,))
    operator = HessianOperator(
        lambda x, y: F.cross_entropy(module(x), y), module.parameters(), [(images, labels)], retain=retain
    )
    assert torch.allclose(dense(operator), exact_hessian(module, images, labels), atol=1e-12)


@pytest.mark.parametrize("retain", [True, False])
def test_uneven_batches_give_the_exact_mean(retain: bool) -> None:
    module, images, labels = small(), torch.randn(12, 5).double(), torch.randint(4, (12,))
    batches = [(images[:7], labels[:7]), (images[7:8], labels[7:8]), (images[8:], labels[8:])]
    operator = HessianOperator(lambda x, y: F.cross_entropy(module(x), y), module.parameters(), batches, retain=retain)
    assert operator.examples == 12
    assert torch.allclose(dense(operator), exact_hessian(module, images, labels), atol=1e-12)


def test_masked_outputs_have_no_curvature() -> None:
    network = TaskModel(small(), [[0, 1], [2, 3]], "task")
    images, labels = torch.randn(9, 5).double(), torch.randint(2, (9,))
    operator = HessianOperator(lambda x, y: F.cross_entropy(network(x, 0), y), network.parameters(), [(images, labels)])
    found = dense(operator)
    assert torch.allclose(found, exact_hessian(network, images, labels, 0), atol=1e-12)
    assert torch.equal(found[-2:], torch.zeros_like(found[-2:]))  # the biases of the masked outputs


def test_unused_and_frozen_parameters() -> None:
    module, images, labels = small(), torch.randn(9, 5).double(), torch.randint(4, (9,))
    unused = nn.Parameter(torch.ones(3).double())
    frozen = next(module.parameters()).requires_grad_(False)
    operator = HessianOperator(
        lambda x, y: F.cross_entropy(module(x), y), [*module.parameters(), unused], [(images, labels)]
    )
    whole = exact_hessian(module, images, labels)[frozen.numel() :, frozen.numel() :]
    found = dense(operator)
    assert found.shape == (len(whole) + 3, len(whole) + 3)
    assert torch.allclose(found[:-3, :-3], whole, atol=1e-12)
    assert torch.equal(found[-3:], torch.zeros_like(found[-3:]))


def test_a_linear_loss_has_no_curvature() -> None:
    weight = nn.Parameter(torch.ones(3))
    operator = HessianOperator(lambda x: (x @ weight).mean(), [weight], [(torch.rand(4, 3),)])
    assert torch.equal(operator.matvec(torch.ones(3)), torch.zeros(3))


def test_nothing_to_differentiate_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameter requires a gradient"):
        HessianOperator(lambda x: x.mean(), [torch.ones(3)], [(torch.ones(1),)])
    with pytest.raises(ValueError, match="no batches"):
        HessianOperator(lambda x: x.mean(), [nn.Parameter(torch.ones(3))], [])


def test_the_largest_eigenvalues_of_a_networks_hessian() -> None:
    module, images, labels = small(), torch.randn(40, 5).double(), torch.randint(4, (40,))
    operator = HessianOperator(lambda x, y: F.cross_entropy(module(x), y), module.parameters(), [(images, labels)])
    exact = torch.linalg.eigvalsh(exact_hessian(module, images, labels))
    largest = exact[exact.abs().argsort(descending=True)[:4]]
    found = deflated_power_iteration(operator, 4, tolerance=1e-8, max_products=2000)
    assert found.converged.all()
    assert torch.allclose(found.eigenvalues, largest, rtol=1e-6)
