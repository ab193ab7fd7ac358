"""From the model section of a plan to a network."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from pipeline.config.schema import Mlp, Model
from pipeline.models.heads import TaskModel, outputs_of_tasks
from pipeline.models.mlp import MLP
from pipeline.models.resnet import ReducedResNet18


def build_model(
    model: Model, image_shape: tuple[int, ...], classes: Sequence[Sequence[int]], dropout: float = 0.0
) -> TaskModel:
    """A network with PyTorch's random initial weights (from the global generator).

    image_shape: (height, width[, channels]). classes: for each task its classes.
    """
    outputs = outputs_of_tasks(classes, model.outputs)
    count = 1 + max(max(row) for row in outputs)
    network: nn.Module
    if isinstance(model, Mlp):
        network = MLP(math.prod(image_shape), model.hidden, count, dropout)
    else:
        channels = image_shape[2] if len(image_shape) == 3 else 1
        network = ReducedResNet18(count, dropout, channels, image_shape[0])
    return TaskModel(network, outputs, model.outputs)
