"""A whole split of a task as tensors on the training device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.streams.reader import Tasks


@dataclass(frozen=True)
class TaskTensors:
    """task: its number, from 0. images: (n, channels, height, width) uint8, a quarter of what they take once the model has
    scaled them. labels: (n,) int64, the index of the network's output."""

    task: int
    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def load_task(
    tasks: Tasks, task: int, split: str, outputs: Sequence[Sequence[int]], device: torch.device
) -> TaskTensors:
    """Read one split of one task once. outputs: see `pipeline.models.heads.outputs_of_tasks`."""
    images, labels = tasks.split(task, split)
    pixels = torch.from_numpy(np.array(images)).to(device)
    # As stored, channels last: convolutions on a CPU are a third faster so, whatever the layout of their weights.
    pixels = pixels.permute(0, 3, 1, 2) if pixels.ndim == 4 else pixels.unsqueeze(1)
    targets = torch.tensor(outputs[task], device=device)[torch.from_numpy(np.array(labels)).to(device)]
    return TaskTensors(task, pixels, targets)
