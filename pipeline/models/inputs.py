"""Load a whole split of a task as tensors on the training device, and the mean training image of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.streams.reader import Tasks


@dataclass(frozen=True)
class TaskTensors:
    """The examples of one split of a task.

    Attributes:
        task: The number of the task, from 0.
        images: (n, channels, height, width) uint8, a quarter of the memory of the float32 images that the model makes
            of them.
        labels: (n,) int64, for each example the index of the right output of the network.
    """

    task: int
    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def load_task(
    tasks: Tasks, task: int, split: str, outputs: Sequence[Sequence[int]], device: torch.device
) -> TaskTensors:
    """Read one split of one task into memory.

    Args:
        tasks: The tasks on disk.
        task: The number of the task, from 0.
        split: "train" or "test".
        outputs: For each task, the outputs of its classes, as `pipeline.models.outputs_of_tasks` gives them.
        device: Where the tensors go.

    Raises:
        UserError: if a file of the task is missing or damaged.
    """
    images, labels = tasks.split(task, split)
    pixels = _channels_second(torch.from_numpy(np.array(images)).to(device))
    pixels = pixels.contiguous(memory_format=layout(device))
    targets = torch.tensor(outputs[task], device=device)[torch.from_numpy(np.array(labels)).to(device)]
    return TaskTensors(task, pixels, targets)


def mean_image(tasks: Tasks) -> Tensor:
    """Compute the mean over the training images of all tasks of a stream.

    The pixels are added as whole numbers, divided once in float64 and rounded once to float32, so that the bits depend
    on nothing but the images.

    Args:
        tasks: The tasks on disk.

    Returns:
        (channels, height, width) float32 in [0, 1], laid out like the images.

    Raises:
        UserError: if a file of a task is missing or damaged.
    """
    total, count = np.zeros(tasks.image_shape, np.int64), 0
    for task in range(len(tasks)):
        images, _ = tasks.split(task, "train")
        total += images.sum(axis=0, dtype=np.int64)
        count += len(images)
    return _channels_second(torch.from_numpy((total / (255 * count)).astype(np.float32))[None])[0]


def layout(device: torch.device) -> torch.memory_format:
    """The layout of images (n, channels, height, width) on a device: the one in which its convolutions are fast.

    Channels last, as in the files, makes those of a CPU a third faster, whatever the layout of their weights. On a GPU
    with CUDA those in single precision are faster on whole planes.
    """
    return torch.contiguous_format if device.type == "cuda" else torch.channels_last


def _channels_second(images: Tensor) -> Tensor:
    """A view of (n, height, width[, channels]) as (n, channels, height, width)."""
    return images.permute(0, 3, 1, 2) if images.ndim == 4 else images.unsqueeze(1)
