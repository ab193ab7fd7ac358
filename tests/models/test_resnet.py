from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.models.resnet import Block, ReducedResNet18


def test_it_has_the_published_size() -> None:
    sizes = [parameter.numel() for parameter in ReducedResNet18(100).parameters()]
    assert (sum(sizes), len(sizes)) == (496_680, 48)


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


def test_every_parameter_has_a_gradient() -> None:
    network = ReducedResNet18(5)
    network(torch.rand(4, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_block_normalises_after_the_relu() -> None:
    torch.manual_seed(0)
    block = Block(4, 4, 1, dropout=0.0).eval()
    images = torch.randn(2, 4, 5, 5)
    for norm in (block.inner_norm, block.outer_norm):
        nn.init.constant_(norm.bias, -3)  # a ReLU after it would cut these to 0
    inner = block.conv(images).relu() / (1 + 1e-5) ** 0.5 - 3
    torch.testing.assert_close(block(images), (inner + images).relu() / (1 + 1e-5) ** 0.5 - 3)


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    network = ReducedResNet18(5, dropout=0.5)
    images = torch.rand(4, 3, 32, 32)
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


def test_checkpoints_fit_with_and_without_dropout() -> None:
    ReducedResNet18(5).load_state_dict(ReducedResNet18(5, dropout=0.5).state_dict())
