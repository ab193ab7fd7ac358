"""Gauss-Newton and Fisher operators against their dense matrices, formed from Jacobians by torch.func."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.curvature import FisherOperator, GaussNewtonOperator, HessianOperator, lanczos
from pipeline.models.heads import TaskModel
from tests.curvature.test_operator import Conv, dense, small


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def jacobian(module: nn.Module, images: Tensor) -> Tensor:
    """d z / d theta, (examples, outputs, n)."""
    names = [name for name, _ in module.named_parameters()]
    shapes = [parameter.shape for parameter in module.parameters()]
    sizes = [parameter.numel() for parameter in module.parameters()]

    def outputs(flat: Tensor) -> Tensor:
        pieces = [piece.view(shape) for piece, shape in zip(torch.split(flat, sizes), shapes, strict=True)]
        found: Tensor = torch.func.functional_call(module, dict(zip(names, pieces, strict=True)), (images,))
        return found

    flat = torch.nn.utils.parameters_to_vector(module.parameters()).detach()
    found: Tensor = torch.func.jacrev(outputs)(flat)
    return found


def gauss_newton(module: nn.Module, images: Tensor) -> Tensor:
    j, p = jacobian(module, images), torch.softmax(module(images), dim=1).detach()
    middle = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    return torch.einsum("icn,icd,idm->nm", j, middle, j) / len(images)


def fisher(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    residual = torch.softmax(module(images), dim=1).detach() - F.one_hot(labels, 4)
    gradients = torch.einsum("icn,ic->in", jacobian(module, images), residual.to(images.dtype))
    return gradients.T @ gradients / len(images)


def operators(module: nn.Module, batches: Sequence[Sequence[Tensor]], **options: Any) -> list[Any]:
    arguments = (lambda x, y: module(x), lambda z, x, y: F.cross_entropy(z, y), list(module.parameters()), batches)
    return [GaussNewtonOperator(*arguments, **options), FisherOperator(*arguments, **options)]


@pytest.mark.parametrize("retain", [True, False])
def test_products_are_those_of_the_exact_matrices(retain: bool) -> None:
    for module, shape in ((small(), (12, 5)), (Conv().double().eval(), (6, 2, 4, 4))):
        images = torch.randn(shape).double()
        labels = torch.randint(4, (len(images),))
        batches = [(images[:4], labels[:4]), (images[4:], labels[4:])]  # of different sizes
        g, f = operators(module, batches, retain=retain)
        assert torch.allclose(dense(g), gauss_newton(module, images), atol=1e-12)
        assert torch.allclose(dense(f), fisher(module, images, labels), atol=1e-12)


@pytest.mark.parametrize("retain", [True, False])
def test_several_vectors_at_once(retain: bool) -> None:
    module, images, labels = small(), torch.randn(7, 5).double(), torch.randint(4, (7,))
    for one, wanted in zip(
        operators(module, [(images, labels)], retain=retain, at_once=True),
        (gauss_newton(module, images), fisher(module, images, labels)),
        strict=True,
    ):
        vectors = torch.randn(one.shape[0], 5).double()
        assert torch.allclose(one.matmat(vectors), wanted @ vectors, atol=1e-12)


def test_of_a_network_that_is_linear_in_its_weights_it_is_the_hessian() -> None:
    module, images, labels = nn.Linear(5, 4).double(), torch.randn(9, 5).double(), torch.randint(4, (9,))
    g, _ = operators(module, [(images, labels)])
    hessian = HessianOperator(lambda x, y: F.cross_entropy(module(x), y), module.parameters(), [(images, labels)])
    assert torch.allclose(dense(g), dense(hessian), atol=1e-14)


def test_another_convex_loss_than_the_cross_entropy() -> None:
    """For the squared error the inner matrix is 2 / outputs times the identity."""
    module, images, targets = small(), torch.randn(8, 5).double(), torch.randn(8, 4).double()
    g = GaussNewtonOperator(
        lambda x, y: module(x), lambda z, x, y: F.mse_loss(z, y), module.parameters(), [(images, targets)]
    )
    j = jacobian(module, images)
    assert torch.allclose(dense(g), 2 / 4 * torch.einsum("icn,icm->nm", j, j) / 8, atol=1e-12)


def test_no_eigenvalue_is_negative_and_the_rank_of_fisher_is_at_most_the_examples() -> None:
    module, images, labels = small(), torch.randn(5, 5).double(), torch.randint(4, (5,))
    for one in operators(module, [(images, labels)]):
        assert float(torch.linalg.eigvalsh(dense(one)).min()) > -1e-12
    assert int(torch.linalg.matrix_rank(dense(one), hermitian=True)) <= 5


def test_masked_outputs_and_unused_and_frozen_parameters() -> None:
    network = nn.Sequential(nn.Linear(5, 4)).double()
    model = TaskModel(network, [[0, 1], [2, 3]], "task").double()
    unused = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    network[0].bias.requires_grad_(False)
    images, labels = torch.randn(6, 5).double(), torch.randint(2, (6,))
    for kind in (GaussNewtonOperator, FisherOperator):
        one = kind(
            lambda x, y: model(x, 0), lambda z, x, y: F.cross_entropy(z, y), [*model.parameters(), unused],
            [(images, labels)],
        )  # fmt: skip
        matrix = dense(one)
        assert matrix.shape == (23, 23)
        assert torch.isfinite(matrix).all()
        assert not matrix[10:].any() and not matrix[:, 10:].any()  # the outputs of task 2, and what is not used
        assert matrix[:10, :10].any()


def test_solvers_take_it_and_memory_is_bounded() -> None:
    module, images, labels = small(), torch.randn(200, 5).double(), torch.randint(4, (200,))
    whole, _ = operators(module, [(images, labels)])
    for bound in (whole.bytes_per_example * 200, whole.bytes_per_example * 60):
        one, _ = operators(module, [(images, labels)], memory=bound)
        assert one.retained <= bound / (whole.bytes_per_example * 200)
        exact = torch.linalg.eigvalsh(gauss_newton(module, images)).flip(0)
        assert torch.allclose(lanczos(one, 3, tolerance=1e-10).eigenvalues, exact[:3], rtol=1e-9)


def test_the_fisher_information_of_outputs_with_one_number_per_example() -> None:
    inputs, targets = torch.randn(7, 3).double(), torch.randn(7).double()
    weights = torch.nn.Parameter(torch.randn(3).double())
    operator = FisherOperator(
        lambda x, y: x @ weights, lambda z, x, y: ((z - y) ** 2).mean(), [weights], [(inputs, targets)]
    )
    gradients = 2 * (inputs @ weights - targets)[:, None].detach() * inputs
    exact = gradients.T @ gradients / len(inputs)
    assert torch.allclose(torch.stack([operator.matvec(v) for v in torch.eye(3).double()]), exact)
    assert torch.allclose(operator.matmat(torch.eye(3).double()), exact)
