"""From the model section of a plan to a network."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.config.schema import Mlp
from pipeline.models.heads import TaskModel, outputs_of_tasks
from pipeline.models.mlp import MLP


def build_model(
    model: Mlp, image_shape: tuple[int, ...], classes: Sequence[Sequence[int]], dropout: float = 0.0
) -> TaskModel:
    """A network with PyTorch's random initial weights (from the global generator).

    image_shape: (height, width[, channels]). classes: for each task its classes.
    """
    outputs = outputs_of_tasks(classes, model.outputs)
    count = 1 + max(max(row) for row in outputs)
    return TaskModel(MLP(math.prod(image_shape), model.hidden, count, dropout), outputs, model.outputs)
