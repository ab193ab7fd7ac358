"""Which outputs a task may use.

Task-incremental learning tells the network the task: every task has outputs of its own, and the logits of all others are
filled with a large negative number, which gives them probability 0 and gradient 0. Shared outputs serve all tasks alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

#: Any number whose exponential is 0; this one is the published code's.
MASKED = -1e11


def outputs_of_tasks(classes: Sequence[Sequence[int]], mode: Literal["task", "shared"]) -> list[list[int]]:
    """For each task the output of each of its classes.

    shared: one output a class, whatever the task. task: likewise where no class is in two tasks (split streams);
    otherwise (rotated, permuted) a block of outputs for each task.
    """
    every = sorted({label for labels in classes for label in labels})
    if mode == "shared" or sum(len(labels) for labels in classes) == len(every):
        position = {label: index for index, label in enumerate(every)}
        return [[position[label] for label in labels] for labels in classes]
    outputs, first = [], 0
    for labels in classes:
        outputs.append(list(range(first, first + len(labels))))
        first += len(labels)
    return outputs


class TaskModel(nn.Module):
    """A network and the mask of each task's outputs.

    forward: images (n, ...), task (an int, or (n,) int64, one for each image) -> logits (n, outputs), masked.
    """

    mask: Tensor | None

    def __init__(self, network: nn.Module, outputs: Sequence[Sequence[int]], mode: Literal["task", "shared"]) -> None:
        super().__init__()
        self.network = network
        mask = None
        if mode == "task":
            mask = torch.ones(len(outputs), 1 + max(max(row) for row in outputs), dtype=torch.bool)
            for task, row in enumerate(outputs):
                mask[task, row] = False
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, images: Tensor, task: int | Tensor) -> Tensor:
        """Masked logits."""
        logits: Tensor = self.network(images)
        return logits if self.mask is None else logits.masked_fill(self.mask[task], MASKED)
