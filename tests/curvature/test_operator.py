from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.curvature import HessianOperator, SymmetricOperator, deflated_power_iteration, lanczos
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


class Conv(nn.Module):
    """A convolution, batch normalisation with running statistics, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(12, 4)
        self.norm.running_mean = torch.randn(3)
        self.norm.running_var = torch.rand(3) + 0.5

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = torch.tanh(self.norm(self.conv(images)))
        logits: Tensor = self.head(features.flatten(1))
        return logits


def dense(operator: SymmetricOperator) -> Tensor:
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


def test_a_convolution_with_batch_normalisation() -> None:
    module = Conv().double().eval()
    images, labels = torch.randn(6, 2, 4, 4).double(), torch.randint(4, (6,))
    operator = HessianOperator(
        lambda x, y: F.cross_entropy(module(x), y),
        module.parameters(),
        [(images[:4], labels[:4]), (images[4:], labels[4:])],
    )
    exact = exact_hessian(module, images, labels)
    assert torch.allclose(dense(operator), exact, atol=1e-12)
    values = torch.linalg.eigvalsh(exact)
    largest = values[values.abs().argsort(descending=True)[:3]]
    for solver in (deflated_power_iteration, lanczos):
        assert torch.allclose(solver(operator, 3, tolerance=1e-8, max_products=2000).eigenvalues, largest, rtol=1e-6)


def test_closed_forms() -> None:
    x, y = torch.randn(30, 4).double(), torch.randn(30).double()
    weight = nn.Parameter(torch.randn(4).double())
    squares = HessianOperator(lambda a, b: ((a @ weight - b) ** 2).mean(), [weight], [(x, y)])
    assert torch.allclose(dense(squares), 2 * x.T @ x / 30, atol=1e-12)
    targets = (y > 0).double()
    logistic = HessianOperator(
        lambda a, b: F.binary_cross_entropy_with_logits(a @ weight, b),
        [weight],
        [(x[:11], targets[:11]), (x[11:], targets[11:])],
    )
    p = torch.sigmoid(x @ weight.detach())
    assert torch.allclose(dense(logistic), (x.T * (p * (1 - p))) @ x / 30, atol=1e-12)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("retain", [True, False])
def test_several_vectors_at_once(at_once: bool, retain: bool) -> None:
    module = Conv().double().eval()
    images, labels = torch.randn(6, 2, 4, 4).double(), torch.randint(4, (6,))
    operator = HessianOperator(
        lambda x, y: F.cross_entropy(module(x), y),
        module.parameters(),
        [(images, labels)],
        retain=retain,
        at_once=at_once,
    )
    for count in (0, 1, 5):
        vectors = torch.randn(operator.shape[0], count).double()
        assert torch.allclose(operator.matmat(vectors), exact_hessian(module, images, labels) @ vectors, atol=1e-12)


def test_the_gradient_is_that_of_the_mean_loss() -> None:
    module, images, labels = small(), torch.randn(12, 5).double(), torch.randint(4, (12,))
    batches = [(images[:7], labels[:7]), (images[7:], labels[7:])]
    operator = HessianOperator(lambda x, y: F.cross_entropy(module(x), y), module.parameters(), batches)
    gradient = torch.autograd.grad(F.cross_entropy(module(images), labels), list(module.parameters()))
    assert torch.allclose(operator.gradient(), torch.cat([piece.flatten() for piece in gradient]), atol=1e-12)


def test_released_graphs_are_built_again_after_the_block() -> None:
    module, images, labels = small(), torch.randn(20, 5).double(), torch.randint(4, (20,))
    operator = HessianOperator(lambda x, y: F.cross_entropy(module(x), y), module.parameters(), [(images, labels)])
    v = torch.randn(operator.shape[0]).double()
    before, held, gradient = operator.matvec(v), operator.bytes_retained, operator.gradient()
    assert held == 20 * operator.bytes_per_example
    with operator.released():
        assert (operator.bytes_retained, operator.retained) == (0, 0)
        assert torch.equal(operator.matvec(v), before)
        assert torch.equal(operator.gradient(), gradient)
    assert (operator.bytes_retained, operator.retained) == (held, 1)
    assert torch.equal(operator.matvec(v), before)


@pytest.mark.parametrize(("share", "retained"), [(2.0, 1.0), (0.5, 0.375), (1e-4, 0.0)])
def test_a_bound_on_memory_cuts_batches_and_changes_no_product(share: float, retained: float) -> None:
    module, images, labels = small(), torch.randn(400, 5).double(), torch.randint(4, (400,))

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(module(x), y)

    whole = HessianOperator(loss, module.parameters(), [(images, labels)])
    assert whole.retained == 1.0
    bound = int(share * 400 * whole.bytes_per_example)
    operator = HessianOperator(loss, module.parameters(), [(images, labels)], memory=bound)
    assert operator.retained == pytest.approx(retained)
    v = torch.randn(operator.shape[0]).double()
    assert torch.allclose(operator.matvec(v), whole.matvec(v), atol=1e-12)


def test_batches_of_one_example_are_counted_too() -> None:
    module, images, labels = small(), torch.randn(6, 5).double(), torch.randint(4, (6,))
    batches = [(images[k : k + 1], labels[k : k + 1]) for k in range(6)]

    def operator(memory: int) -> HessianOperator:
        return HessianOperator(lambda x, y: F.cross_entropy(module(x), y), module.parameters(), batches, memory=memory)

    size = operator(1 << 30).bytes_per_example
    assert size > 100
    assert operator(1 << 30).retained == 1
    assert operator(4 * size).retained == 0.5


def test_what_an_example_takes_is_measured() -> None:
    module, images, labels = Conv().double().eval(), torch.randn(60, 2, 4, 4).double(), torch.randint(4, (60,))
    operator = HessianOperator(lambda x, y: F.cross_entropy(module(x), y), module.parameters(), [(images, labels)])
    taken = operator._bytes([images, labels]) - operator._bytes([images[:20], labels[:20]])
    assert operator.bytes_per_example == pytest.approx(taken / 40, rel=0.05)


MEASURED = """
import sys, torch
from torch.nn import functional as F
from pipeline.curvature import HessianOperator
from pipeline.models.resnet import ReducedResNet18
torch.set_num_threads(1)
network = ReducedResNet18(10).eval()
images, labels = torch.rand(48, 3, 32, 32), torch.randint(10, (48,))
def loss(x, y): return F.cross_entropy(network(x), y)
def product(count, memory):
    operator = HessianOperator(loss, network.parameters(), [(images[:count], labels[:count])], memory=memory)
    operator.matvec(torch.randn(operator.shape[0]))
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:"))
product(8, 1)  # the code of the kernels
before = peak()
for memory in map(int, sys.argv[1:]):
    product(48, memory)
    print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of the memory from Linux")
def test_a_bound_on_memory_holds() -> None:
    """By the kernel's VmHWM: what `resource` calls the peak begins with that of the process that started this one."""
    bound = 50 << 20
    command = [sys.executable, "-c", MEASURED, str(bound), str(1 << 40)]
    bounded, unbounded = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert unbounded > 175 << 20  # 5 MB an image
    assert bounded < 2 * bound  # the graphs, and what a product needs meanwhile


class Attention(nn.Module):
    """One head of attention over a few tokens, and a mean over them."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.head = nn.Linear(3, 9), nn.Linear(3, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.inside(tokens)[:, None].chunk(3, dim=-1)
        logits: Tensor = self.head(F.scaled_dot_product_attention(query, key, value)[:, 0].mean(dim=1))
        return logits


@pytest.mark.parametrize("retain", [True, False])
def test_a_network_with_attention_has_products_too(retain: bool) -> None:
    """The fused kernels, which PyTorch chooses where it can, have no second derivative."""
    module, tokens, labels = Attention(), torch.randn(6, 4, 3), torch.randint(2, (6,))
    operator = HessianOperator(
        lambda x, y: F.cross_entropy(module(x), y), module.parameters(), [(tokens, labels)], retain=retain
    )
    found = dense(operator)
    with sdpa_kernel(SDPBackend.MATH):
        torch.testing.assert_close(found, exact_hessian(module, tokens, labels), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("module", [nn.Linear(5, 4), nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))])
def test_products_of_parameters_that_have_changed_since_are_refused(module: nn.Module) -> None:
    """Autograd would say nothing of the first network, and give the old products."""
    images, labels = torch.randn(12, 5), torch.randint(4, (12,))

    def made() -> HessianOperator:
        return HessianOperator(lambda x, y: F.cross_entropy(module(x), y), module.parameters(), [(images, labels)])

    def step() -> None:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(0.5)

    operator = made()
    v = torch.randn(operator.shape[0])
    before = operator.matvec(v)
    step()
    refused: list[Callable[[], Tensor]] = [
        lambda: operator.matvec(v),
        lambda: operator.matmat(v[:, None]),
        operator.gradient,
    ]
    for product in refused:
        with pytest.raises(RuntimeError, match=r"^the parameters have changed since .*; make it anew, or"):
            product()
    assert not torch.equal(made().matvec(v), before)
    with operator.released():
        step()
        torch.testing.assert_close(operator.matvec(v), made().matvec(v))
    torch.testing.assert_close(operator.matvec(v), made().matvec(v))
