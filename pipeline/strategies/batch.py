"""The examples of a step, their loss, and what a strategy needs to know of the stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models import TaskModel


class Batch(NamedTuple):
    """The examples of one step.

    Attributes:
        images: (n, channels, height, width) uint8, which the model scales; images of another dtype enter it as they
            are.
        labels: (n,) int64, for each example the index of the right output of the network.
        task: The number of the task, from 0; or (n,) int64, one number per example, if the batch mixes tasks.
    """

    images: Tensor
    labels: Tensor
    task: int | Tensor


@dataclass(frozen=True)
class Stream:
    """What a strategy needs to know of the stream and of the run.

    Attributes:
        classes: For each task, the indices of the network's outputs that stand for its classes.
        batch_size: Number of examples per step.
        generator: The random generator of the run from which strategies draw, first of all for their memories.
    """

    classes: list[list[int]]
    batch_size: int
    generator: np.random.Generator


def cross_entropy(model: TaskModel, batch: Batch) -> Tensor:
    """Mean cross-entropy of a batch, in nats.

    If the model has outputs of their own for each task, each example is judged by the outputs of its own task alone.

    Args:
        model: The network.
        batch: n examples.

    Returns:
        A scalar with a graph.
    """
    return cross_entropy_of(model(batch.images, batch.task), batch)


def cross_entropy_of(logits: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy of logits that a batch has given, in nats.

    Args:
        logits: (n, outputs), masked as the model does.
        batch: The n examples.

    Returns:
        A scalar with a graph.
    """
    return F.cross_entropy(logits, batch.labels)


def joined(*batches: Batch) -> Batch:
    """The examples of several batches as one, in this order, with the task of each."""
    return Batch(
        torch.cat([batch.images for batch in batches]),
        torch.cat([batch.labels for batch in batches]),
        torch.cat([tasks_of(batch) for batch in batches]),
    )


def tasks_of(batch: Batch) -> Tensor:
    """The number of the task of each example of a batch.

    Args:
        batch: n examples.

    Returns:
        (n,) int64, on the device of the batch.
    """
    if isinstance(batch.task, Tensor):
        return batch.task
    return torch.full_like(batch.labels, batch.task)  # a number that is copied to a GPU would make the host wait


def trained(model: nn.Module) -> list[Tensor]:
    """The parameters that require a gradient, in the order of `model.parameters()`."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
