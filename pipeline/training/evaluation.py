"""Rows of the accuracy matrix: how well a network does on every task of the stream."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.models import TaskModel, TaskTensors

#: Images a forward pass, by kind of device. A CPU is fastest while the features of all images of a pass fit its cache (the
#: reduced ResNet-18 is half as fast with 500 as with 100); a GPU, while it has enough to do.
CHUNK = {"cpu": 100}
OTHER_CHUNK = 1000


@torch.no_grad()
def evaluate(model: TaskModel, task: TaskTensors, dropout: bool = False) -> tuple[float, float]:
    """Accuracy (a fraction) and mean cross-entropy (nats) on one task, in eval mode; the model's mode is restored.

    dropout: whether that stays on, by PyTorch's global random state.
    """
    mode = model.training
    model.eval()
    if dropout:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.train()
    correct, loss = 0, 0.0
    chunk = CHUNK.get(task.images.device.type, OTHER_CHUNK)
    for images, labels in zip(torch.split(task.images, chunk), torch.split(task.labels, chunk), strict=True):
        logits = model(images, task.task)
        correct += int((logits.argmax(dim=1) == labels).sum())
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
    model.train(mode)
    return correct / len(task), loss / len(task)


def accuracy_row(
    model: TaskModel, tasks: Sequence[TaskTensors], count: int | None = None, dropout: bool = False
) -> tuple[list[float], list[float]]:
    """One row of the accuracy matrix, and the losses beside it. count: of tasks from the first on that are evaluated (None:
    all); the others have NaN. dropout: see `evaluate`."""
    pairs = [evaluate(model, task, dropout) for task in tasks[:count]]
    missing = [math.nan] * (len(tasks) - len(pairs))
    return [*(accuracy for accuracy, _ in pairs), *missing], [*(loss for _, loss in pairs), *missing]
