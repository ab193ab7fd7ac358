"""What benchmarks.yaml may say of networks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.types import Strict, Width

Pixels = Literal["unit", "symmetric", "imagenet", "mean-image"]
Weights = Literal["random", "imagenet"]


class Network(Strict):
    """The settings that all networks share."""

    outputs: Literal["task", "shared"] = Field(
        description="task: each task has outputs of its own, the others masked. shared: one set for all"
    )
    pixels: Pixels = Field(
        "unit",
        description="what 0..255 become: unit [0, 1], symmetric [-1, 1], imagenet (unit, less ImageNet's mean, over "
        "its standard deviation, for each channel), mean-image (unit, less the mean training image of the stream)",
    )


class Mlp(Network):
    """A multi-layer perceptron."""

    name: Literal["mlp"]
    hidden: Annotated[list[Width], Field(max_length=100)] = Field(description="widths of the hidden layers")


#: The least height and width of images for the reduced ResNet-18, of which smaller ones leave nothing to pool.
LEAST_SIDE = 25


class ReducedResnet(Network):
    """The reduced ResNet-18 of the continual-learning experiments, for images of at least 25 pixels a side."""

    name: Literal["resnet18-reduced"]
    layout: Literal["published", "standard"] = Field(
        "published",
        exclude_if=lambda layout: layout == "published",  # so that plans of the first records keep their keys
        description="published: one convolution per block, normalised after the ReLU, as in the code of TAG and Stable "
        "SGD. standard: two, normalised before it, as in GEM's and A-GEM's experiments",
    )


class Resnet(Network):
    """The ResNet-18 of torchvision."""

    name: Literal["resnet18"]
    weights: Weights = Field(
        "random", description="random, or imagenet (trained on ImageNet-1k, with a new last layer)"
    )


Model = Annotated[Mlp | ReducedResnet | Resnet, Field(discriminator="name")]
