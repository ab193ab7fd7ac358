"""Examples on their way through the network, and what a strategy must know of the stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models import TaskModel


class Batch(NamedTuple):
    """images: (n, channels, height, width) uint8 (the model scales them). labels: (n,) int64, outputs of the network. task:
    its number from 0, or (n,) int64 where the batch mixes tasks."""

    images: Tensor
    labels: Tensor
    task: int | Tensor


@dataclass(frozen=True)
class Stream:
    """classes: for each task the network's outputs of its classes. batch_size: examples a step. generator: the run's
    random stream for memories."""

    classes: list[list[int]]
    batch_size: int
    generator: np.random.Generator


def cross_entropy(model: TaskModel, batch: Batch) -> Tensor:
    """Mean cross-entropy (nats) of a batch, each example with its own task's outputs alone."""
    return F.cross_entropy(model(batch.images, batch.task), batch.labels)


def trained(model: nn.Module) -> list[Tensor]:
    """The parameters that take a gradient, in their order."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
