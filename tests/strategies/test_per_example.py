"""The gradients of single examples from one pass are those of one pass for each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.strategies import per_example
from pipeline.strategies.per_example import sums_of_absolute_gradients


class Twice(nn.Module):
    """One layer that is called twice, and one that is never."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.unused = nn.Linear(6, 6), nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.layer(torch.tanh(self.layer(images.flatten(1))))
        return output


class Scaled(nn.Module):
    """A parameter of its own, beside a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(6, 3), nn.Parameter(torch.rand(3))

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.layer(images.flatten(1)) * self.scale
        return output


def convolutions() -> nn.Module:
    """Every argument of a convolution, and an activation that writes over the output of the layer before."""
    return nn.Sequential(
        nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 5, 3, bias=False),
        nn.LeakyReLU(inplace=True),
        nn.Flatten(),
        nn.LazyLinear(4),
        nn.BatchNorm1d(4),
    )


def frozen() -> nn.Module:
    """A layer that is not trained."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2))
    net[1].requires_grad_(False)
    return net


#: Each network, the shape of its images, and whether its examples go through it together.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], bool]] = {
    "convolutions": (convolutions, (3, 9, 8), True),
    "several positions": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.Flatten()),
        (2, 3),
        True,
    ),
    "twice": (Twice, (2, 3), True),
    "frozen": (frozen, (2, 3), True),
    "grouped": (lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Flatten()), (4, 4, 4), False),
    "same": (lambda: nn.Sequential(nn.Conv2d(2, 3, 3, padding="same"), nn.Flatten()), (2, 4, 4), False),
    "circular": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.Flatten()),
        (2, 4, 4),
        False,
    ),
    "layer norm": (lambda: nn.Sequential(nn.Flatten(), nn.LayerNorm(6), nn.Linear(6, 2)), (2, 3), False),
    "own parameter": (Scaled, (2, 3), False),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_sums_are_those_of_a_pass_for_each_example(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build, shape, together = NETWORKS[name]
    torch.manual_seed(0)
    net, images = build(), torch.randn(7, *shape)
    net.double()(images.double())  # in train mode: running statistics that are not those of a new network
    images = images.double()
    net.eval()
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    wanted = [torch.zeros_like(parameter) for parameter in parameters]
    for image in images:
        found = torch.autograd.grad(net(image[None]).square().sum(), parameters, allow_unused=True)
        for total, gradient in zip(wanted, found, strict=True):
            total += 0 if gradient is None else gradient.abs()
    passes: list[int] = []

    def value(part: Tensor) -> Tensor:
        passes.append(len(part))
        squares: Tensor = net(part).square()
        return squares.sum(dim=1)

    monkeypatch.setattr(per_example, "EXAMPLES", 4)
    torch.testing.assert_close(sums_of_absolute_gradients(net, parameters, value, images), wanted)
    assert passes == ([4, 3] if together else [1] * 7)
    assert not any(module._forward_hooks for module in net.modules())
    assert any((total > 0).any() for total in wanted)


def test_large_layers_take_fewer_examples_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    net, passes = nn.Sequential(nn.Flatten(), nn.Linear(6, 4)), []

    def value(part: Tensor) -> Tensor:
        passes.append(len(part))
        squares: Tensor = net(part).square()
        return squares.sum(dim=1)

    monkeypatch.setattr(per_example, "BUDGET", 3 * 24)
    sums_of_absolute_gradients(net, list(net.parameters()), value, torch.rand(7, 2, 3))
    assert passes == [3, 3, 1]


def test_weights_that_are_shared_computed_or_folded_take_one_example_after_the_other() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)
            self.two.weight = self.one.weight

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.two(torch.tanh(self.one(x)))
            return out

    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = torch.tanh(self.layer(x.view(2 * len(x), 3))).view(len(x), 4)
            return out

    normalised = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4)))
    for model, width in ((Tied(), 3), (Folded(), 6), (normalised, 3)):
        model.eval()
        images = torch.randn(5, width, generator=torch.Generator().manual_seed(0))
        parameters = list(model.parameters())

        def value(x: Tensor, model: nn.Module = model) -> Tensor:
            values: Tensor = (model(x) ** 2).sum(dim=1)
            return values

        found = sums_of_absolute_gradients(model, parameters, value, images)
        one_by_one = [torch.autograd.grad(value(image[None]).sum(), parameters) for image in images]
        for place, total in enumerate(found):
            exact = torch.stack([gradients[place].abs() for gradients in one_by_one]).sum(dim=0)
            assert torch.allclose(total, exact, atol=1e-6)
            assert bool((total > 0).any())


def test_a_layer_may_be_given_its_input_by_name() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, images: Tensor) -> Tensor:
            out: Tensor = self.layer(input=images)
            return out

    model, images = Named(), torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    parameters = list(model.parameters())
    found = sums_of_absolute_gradients(model, parameters, lambda part: (model(part) ** 2).sum(dim=1), images)
    of_each = [torch.autograd.grad((model(image[None]) ** 2).sum(), parameters) for image in images]
    torch.testing.assert_close(found, [torch.stack(parts).abs().sum(dim=0) for parts in zip(*of_each, strict=True)])


class Cosine(nn.Module):
    """The layer of the outputs is never called: only its weight is used."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 5), nn.Linear(5, 3, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        features = F.normalize(torch.tanh(self.body(images.flatten(1))))
        return F.linear(features, F.normalize(self.head.weight))


class Decoder(nn.Module):
    """A weight that is used by its layer and, transposed, once more."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        return F.linear(torch.tanh(self.encoder(images.flatten(1))), self.encoder.weight.t())


@pytest.mark.parametrize("kind", [Cosine, Decoder])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_used_without_their_layer_take_one_example_after_the_other(
    kind: type[nn.Module], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model, images, passes = kind().to(dtype).eval(), torch.randn(7, 2, 3, dtype=dtype), []
    parameters = list(model.parameters())

    def value(part: Tensor) -> Tensor:
        passes.append(len(part))
        squares: Tensor = model(part)[:, :2].square()
        return squares.sum(dim=1)

    one_by_one = [torch.autograd.grad(value(image[None]).sum(), parameters) for image in images]
    wanted = [torch.stack(gradients).abs().sum(dim=0) for gradients in zip(*one_by_one, strict=True)]
    passes.clear()
    monkeypatch.setattr(per_example, "EXAMPLES", 4)
    torch.testing.assert_close(sums_of_absolute_gradients(model, parameters, value, images), wanted)
    assert passes == [4] + [1] * 7  # tried once, on the first examples


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_that_are_rounding_alone_are_no_reason_to_take_one_by_one(dtype: torch.dtype) -> None:
    """What normalisation takes away again: the gradient of the bias before it is zero but for rounding."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    model, passes = model.to(dtype).eval(), []

    def value(part: Tensor) -> Tensor:
        passes.append(len(part))
        squares: Tensor = model(part).square()
        return squares.sum(dim=1)

    images = torch.randn(40, 3, 8, 8).to(dtype)
    bias, *_ = (parameter for name, parameter in model.named_parameters() if name == "0.bias")
    (found,) = sums_of_absolute_gradients(model, [bias], value, images)
    sums_of_absolute_gradients(model, list(model.parameters()), value, images)
    assert passes[-1] == 40
    assert bool((found >= 0).all())
