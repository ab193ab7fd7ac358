from __future__ import annotations

from collections import Counter
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from pipeline.config import RunPlan
from pipeline.config.networks import ReducedResnet
from pipeline.models import build_model
from pipeline.models.resnet import Block, ReducedResNet18, StandardBlock
from tests.conftest import run_plan

LAYOUTS: tuple[Literal["published", "standard"], ...] = ("published", "standard")


@pytest.mark.parametrize(("layout", "size"), [("published", (496_680, 48)), ("standard", (1_109_240, 62))])
def test_it_has_the_published_size(layout: Literal["published", "standard"], size: tuple[int, int]) -> None:
    sizes = [parameter.numel() for parameter in ReducedResNet18(100, layout=layout).parameters()]
    assert (sum(sizes), len(sizes)) == size


@pytest.mark.parametrize(("image_size", "channels", "width"), [(25, 3, 160), (32, 1, 160), (64, 3, 640), (84, 3, 640)])
def test_the_linear_layer_follows_the_image(image_size: int, channels: int, width: int) -> None:
    network = ReducedResNet18(7, channels=channels, image_size=(image_size, image_size))
    assert network.head.in_features == width
    assert network(torch.rand(2, channels, image_size, image_size)).shape == (2, 7)


def test_images_need_not_be_square() -> None:
    network = ReducedResNet18(7, image_size=(32, 96))
    assert network(torch.rand(2, 3, 32, 96)).shape == (2, 7)


def test_images_too_small_to_pool_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 25x25 pixels, not 24x24"):
        ReducedResNet18(10, image_size=(24, 24))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_parameter_has_a_gradient(layout: Literal["published", "standard"]) -> None:
    network = ReducedResNet18(5, layout=layout)
    network(torch.rand(4, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(("layout", "eps"), [("published", 1e-5), ("standard", 1e-3)])
def test_what_enters_the_blocks_is_normalised_and_rectified(
    layout: Literal["published", "standard"], eps: float
) -> None:
    torch.manual_seed(0)
    network = ReducedResNet18(5, layout=layout).eval()
    nn.init.constant_(network.norm.bias, -0.1)
    seen: list[Tensor] = []
    network.blocks[0].register_forward_pre_hook(lambda block, inputs: seen.append(inputs[0]))
    images = torch.rand(2, 3, 32, 32)
    network(images)
    torch.testing.assert_close(seen[0], (network.conv(images) / (1 + eps) ** 0.5 - 0.1).relu(), rtol=1e-5, atol=1e-6)
    assert network.norm.eps == eps


def test_a_block_normalises_after_the_relu() -> None:
    torch.manual_seed(0)
    block = Block(4, 4, 1, dropout=0.0).eval()
    images = torch.randn(2, 4, 5, 5)
    for norm in (block.inner_norm, block.outer_norm):
        nn.init.constant_(norm.bias, -3)  # a ReLU after it would cut these to 0
    inner = block.conv(images).relu() / (1 + 1e-5) ** 0.5 - 3
    torch.testing.assert_close(block(images), (inner + images).relu() / (1 + 1e-5) ** 0.5 - 3)


def test_a_standard_block_normalises_before_the_relu_and_on_the_shortcut() -> None:
    torch.manual_seed(0)
    block, images = StandardBlock(4, 6, 2, dropout=0.0).eval(), torch.randn(2, 4, 5, 5)
    convolution, norm = block.shortcut
    for part in (block.norm1, block.norm2, norm):
        assert isinstance(part, nn.BatchNorm2d)
        assert (part.eps, part.momentum) == (1e-3, 0.1)  # a running average of 0.9
        nn.init.constant_(part.bias, 0.5)

    def normalised(features: torch.Tensor) -> torch.Tensor:
        normal: torch.Tensor = features / (1 + 1e-3) ** 0.5 + 0.5
        return normal

    inner = normalised(block.conv1(images)).relu()
    wanted = (normalised(block.conv2(inner)) + normalised(convolution(images))).relu()
    assert wanted.shape == (2, 6, 3, 3)
    torch.testing.assert_close(block(images), wanted)
    same = StandardBlock(4, 4, 1, dropout=0.0).eval()
    for convolution in (same.conv1, same.conv2):
        nn.init.zeros_(convolution.weight)
    assert torch.equal(same(images), images.relu())  # nothing but the shortcut, which is the identity


def test_the_standard_layout_starts_from_uniform_weights_of_the_published_width() -> None:
    torch.manual_seed(0)
    network = ReducedResNet18(100, layout="standard")
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            bound = (module.kernel_size[0] * module.in_channels) ** -0.5
            assert 0.97 * bound < float(module.weight.detach().abs().max()) <= bound
            assert float(module.weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.06)
            assert module.bias is None
    for parameter in network.head.parameters():
        assert 0.9 * 160**-0.5 < float(parameter.detach().abs().max()) <= 160**-0.5


def test_the_layout_is_in_a_plan_only_where_it_is_not_the_published_one() -> None:
    def plan(**model: object) -> RunPlan:
        return run_plan(model={"name": "resnet18-reduced", "outputs": "task", **model})

    as_ever = {"name": "resnet18-reduced", "outputs": "task", "pixels": "unit"}
    for published in (plan(), plan(layout="published")):
        assert published.model_dump()["model"] == as_ever
        assert published.model_dump(exclude_none=True)["model"] == as_ever
    assert plan(layout="standard").model_dump(exclude_none=True)["model"] == as_ever | {"layout": "standard"}


def test_the_layout_of_a_plan_is_built() -> None:
    for layout, block in (("published", Block), ("standard", StandardBlock)):
        model = ReducedResnet.model_validate({"name": "resnet18-reduced", "outputs": "task", "layout": layout})
        network = build_model(model, (32, 32, 3), [[0, 1]]).network
        assert isinstance(network, ReducedResNet18)
        assert {type(part) for part in network.blocks} == {block}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dropout_acts_in_training_alone(layout: Literal["published", "standard"]) -> None:
    torch.manual_seed(0)
    network = ReducedResNet18(5, dropout=0.5, layout=layout)
    images = torch.rand(4, 3, 32, 32)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


@pytest.mark.parametrize(("layout", "places"), [("published", 2), ("standard", 1)])
def test_dropout_is_at_every_place_that_a_block_tells_of(layout: Literal["published", "standard"], places: int) -> None:
    network, used = ReducedResNet18(5, dropout=0.5, layout=layout), Counter[str]()
    for name, module in network.named_modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda *_, name=name: used.update([name]))
    network(torch.rand(2, 3, 32, 32))
    assert list(used.values()) == [places] * 8


@pytest.mark.parametrize("layout", LAYOUTS)
def test_checkpoints_fit_with_and_without_dropout(layout: Literal["published", "standard"]) -> None:
    ReducedResNet18(5, layout=layout).load_state_dict(ReducedResNet18(5, dropout=0.5, layout=layout).state_dict())
