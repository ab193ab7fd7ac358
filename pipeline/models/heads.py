"""What enters a network and what leaves it: the scale of pixels, and which outputs a task may use.

In task-incremental learning the network is given the task of each example: every task has outputs of its own, and the
logits of all other outputs are filled with a large negative number, which gives them probability 0 and gradient 0.
Shared outputs serve all tasks alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.config.networks import Pixels

#: The logit of a masked output: any number whose exponential is 0 would do, and the published code uses this one.
MASKED = -1e11


def holding_masked(logits: Tensor) -> Tensor:
    """Logits in a dtype that can hold `MASKED`: those in float16, as of mixed precision, become float32."""
    return logits.float() if logits.dtype == torch.float16 else logits


def outputs_of_tasks(classes: Sequence[Sequence[int]], mode: Literal["task", "shared"]) -> list[list[int]]:
    """Find the outputs of the network that stand for the classes of each task.

    Args:
        classes: For each task, its classes as numbered in the dataset.
        mode: "shared": one output per class, whatever the task. "task": the same where no class belongs to two tasks
            (split streams); otherwise (rotated, permuted) each task has a block of outputs of its own.

    Returns:
        For each task, the index of the output of each of its classes, in the order of `classes`.
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


#: Mean and standard deviation (red, green, blue) of pixels in [0, 1] with which torchvision's weights were trained.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TaskModel(nn.Module):
    """A network, the scale of its pixels, and the mask of each task's outputs.

    Args:
        network: Maps images to logits, (n, outputs).
        outputs: For each task, the indices of its outputs, as `outputs_of_tasks` gives them.
        mode: "task": the outputs of other tasks are masked. "shared": none is.
        pixels: What uint8 images become on their way into the network: "unit" [0, 1], "symmetric" [-1, 1], "imagenet"
            (unit, minus ImageNet's mean, divided by its standard deviation, per channel), or "mean-image" (unit, minus
            `mean_image`). Images of another dtype enter it as they are.
        mean_image: (channels, height, width) in [0, 1], only for "mean-image".

    Raises:
        ValueError: if the mean image is missing, or given for other pixels.

    Attributes:
        network: The network.
        mask: (tasks, outputs) bool, True for an output that the task may not use; None if the outputs are shared.
        mean: What is subtracted from pixels in [0, 1]; None with "unit".
        std: What they are then divided by; None with "unit" and "mean-image".
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
        mean_image: Tensor | None = None,
    ) -> None:
        super().__init__()
        if (pixels == "mean-image") != (mean_image is not None):
            raise ValueError("a mean image is needed for pixels: mean-image, and for no others")
        self.network = network
        mean, std = mean_image, None
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
        """Masked logits.

        Args:
            images: (n, channels, ...).
            task: The number of the task from 0, or (n,) int64, one number per image.

        Returns:
            (n, outputs); `MASKED` at the outputs that the task may not use.
        """
        return self.masked(self.network(self.scaled(images)), task)

    def masked(self, logits: Tensor, task: int | Tensor) -> Tensor:
        """The logits of the network as `forward` returns them.

        Args:
            logits: (n, outputs), what the network gives.
            task: As for `forward`.

        Returns:
            (n, outputs); `MASKED` at the outputs that the task may not use.
        """
        return logits if self.mask is None else holding_masked(logits).masked_fill(self.mask[task], MASKED)

    def scaled(self, images: Tensor) -> Tensor:
        """What enters the network: uint8 images scaled, others as they are.

        Args:
            images: (n, channels, ...).
        """
        if images.dtype != torch.uint8:
            return images
        scaled = images.to(next(self.parameters()).dtype).div_(255)
        if self.mean is not None:
            scaled.sub_(self.mean)
        return scaled if self.std is None else scaled.div_(self.std)
