"""Build the network that the model section of a plan describes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from torch import Tensor, nn

from pipeline.config.networks import Mlp, Model, Resnet
from pipeline.models.heads import TaskModel, outputs_of_tasks
from pipeline.models.inputs import mean_image
from pipeline.models.mlp import MLP
from pipeline.models.pretrained import resnet18
from pipeline.models.resnet import ReducedResNet18
from pipeline.streams.reader import Tasks
from pipeline.support.errors import UserError

#: Most weights that an MLP may have (4 GB of them); a plan that asks for more is taken for a mistake.
MOST = 10**9


def build_model(
    model: Model,
    image_shape: tuple[int, ...],
    classes: Sequence[Sequence[int]],
    dropout: float = 0.0,
    weights: Path | None = None,
    mean: Tensor | None = None,
) -> TaskModel:
    """Build a network with random initial weights from PyTorch's global generator.

    Args:
        model: The model section of the plan.
        image_shape: (height, width) of grey images, or (height, width, channels).
        classes: For each task, its classes as numbered in the dataset.
        dropout: Probability of dropout.
        weights: A file of initial weights for all layers but the last; only resnet18 uses it. None: random weights.
        mean: (channels, height, width) in [0, 1], the mean training image, where `model.pixels` is mean-image.

    Returns:
        The network, on the CPU and in training mode.

    Raises:
        ValueError: if a mean image is missing, or given for other pixels.
        UserError: if the network cannot take such images, if an MLP would have more than `MOST` weights, or if the file
            of weights is missing, damaged or of another network.
    """
    outputs = outputs_of_tasks(classes, model.outputs)
    count = 1 + max(max(row) for row in outputs)
    channels = image_shape[2] if len(image_shape) == 3 else 1
    rgb = (model.pixels == "imagenet" and "pixels: imagenet") or (isinstance(model, Resnet) and "resnet18")
    if rgb and channels != 3:
        raise UserError(
            f"benchmarks.yaml: model: {rgb} needs RGB images, these are grey; choose another network or dataset"
        )
    network: nn.Module
    if isinstance(model, Mlp):
        widths = [math.prod(image_shape), *model.hidden, count]
        if (parameters := sum((a + 1) * b for a, b in pairwise(widths))) > MOST:
            raise UserError(f"benchmarks.yaml: model.hidden: makes {parameters:,} weights, at most {MOST:,}; narrow it")
        network = MLP(math.prod(image_shape), model.hidden, count, dropout)
    elif isinstance(model, Resnet):
        network = resnet18(count, dropout, weights)
    else:
        try:
            network = ReducedResNet18(count, dropout, channels, image_shape[:2], model.layout)
        except ValueError as error:
            raise UserError(f"benchmarks.yaml: model: {error}; choose another network or larger images") from None
    return TaskModel(network, outputs, model.outputs, model.pixels, mean)


def build_model_for(model: Model, tasks: Tasks, dropout: float = 0.0, weights: Path | None = None) -> TaskModel:
    """Build a network for the tasks of a stream, whose images and classes say the rest; see `build_model`.

    Args:
        model: The model section of the plan.
        tasks: The stream. All of its training images are read if `model.pixels` is mean-image.
        dropout: Probability of dropout.
        weights: A file of initial weights, as `build_model` takes it.

    Raises:
        UserError: as `build_model` does, or if the training images are read and a file is missing or damaged.
    """
    mean = mean_image(tasks) if model.pixels == "mean-image" else None
    return build_model(model, tasks.image_shape, tasks.classes, dropout, weights, mean)
