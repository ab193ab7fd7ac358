"""What goes into a network and what comes out: the scale of pixels, and which outputs a task may use.

Task-incremental learning tells the network the task: every task has outputs of its own, and the logits of all others are
filled with a large negative number, which gives them probability 0 and gradient 0. Shared outputs serve all tasks alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.config.schema import Pixels

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


#: Of ImageNet's training images in [0, 1], red, green, blue: what torchvision's weights were trained with.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TaskModel(nn.Module):
    """A network, the scale of its pixels, and the mask of each task's outputs.

    pixels: what uint8 images become on their way into the network, see `pipeline.config.schema.Network`; images of another
    type go in as they are.

    forward: images (n, channels, ...), task (an int, or (n,) int64, one for each image) -> logits (n, outputs), masked.
    """

    mask: Tensor | None
    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        outputs: Sequence[Sequence[int]],
        mode: Literal["task", "shared"],
        pixels: Pixels = "unit",
    ) -> None:
        super().__init__()
        self.network = network
        mean, std = None, None
        if pixels == "symmetric":
            mean, std = torch.tensor(0.5), torch.tensor(0.5)
        elif pixels == "imagenet":
            mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        mask = None
        if mode == "task":
            mask = torch.ones(len(outputs), 1 + max(max(row) for row in outputs), dtype=torch.bool)
            for task, row in enumerate(outputs):
                mask[task, row] = False
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, images: Tensor, task: int | Tensor) -> Tensor:
        """Masked logits."""
        logits: Tensor = self.network(self._scaled(images) if images.dtype == torch.uint8 else images)
        return logits if self.mask is None else logits.masked_fill(self.mask[task], MASKED)

    def _scaled(self, images: Tensor) -> Tensor:
        scaled = images.to(next(self.parameters()).dtype).div_(255)
        return scaled if self.mean is None or self.std is None else scaled.sub_(self.mean).div_(self.std)
