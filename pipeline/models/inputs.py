"""Load a whole split of a task as tensors on the training device."""

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
        task: the number of the task, from 0.
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
        tasks: the tasks on disk.
        task: the number of the task, from 0.
        split: "train" or "test".
        outputs: for each task, the outputs of its classes, as `pipeline.models.outputs_of_tasks` gives them.
        device: where the tensors go.

    Raises:
        UserError: if a file of the task is missing or damaged.
    """
    images, labels = tasks.split(task, split)
    pixels = torch.from_numpy(np.array(images)).to(device)
    # Keep the layout of the files, channels last: it makes convolutions on a CPU a third faster, whatever the layout of
    # their weights.
    pixels = pixels.permute(0, 3, 1, 2) if pixels.ndim == 4 else pixels.unsqueeze(1)
    targets = torch.tensor(outputs[task], device=device)[torch.from_numpy(np.array(labels)).to(device)]
    return TaskTensors(task, pixels, targets)
