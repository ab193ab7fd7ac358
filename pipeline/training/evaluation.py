"""Evaluation of a network on the tasks of a stream: the rows of the accuracy matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.models import TaskModel, TaskTensors, evaluating

#: Images per forward pass, by type of device. A CPU is fastest as long as the features of all images of a pass fit into
#: its cache (the reduced ResNet-18 is half as fast with 500 images as with 100); a GPU needs larger passes to be busy.
CHUNK = {"cpu": 100}
OTHER_CHUNK = 1000


@torch.no_grad()
def evaluate(model: TaskModel, task: TaskTensors, dropout: bool = False) -> tuple[float, float]:
    """Evaluate a model on one task, in eval mode; the mode of the model is restored afterwards.

    Args:
        model: The model to evaluate.
        task: The images and labels of the task.
        dropout: Whether dropout stays on, with masks drawn from PyTorch's global random state.

    Returns:
        The accuracy, a fraction, and the mean cross-entropy in nats.
    """
    correct, loss = 0, 0.0
    chunk = CHUNK.get(task.images.device.type, OTHER_CHUNK)
    with evaluating(model):
        if dropout:
            for module in model.modules():
                if isinstance(module, nn.Dropout):
                    module.train()
        for images, labels in zip(torch.split(task.images, chunk), torch.split(task.labels, chunk), strict=True):
            logits = model(images, task.task)
            correct += int((logits.argmax(dim=1) == labels).sum())
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
    return correct / len(task), loss / len(task)


def accuracy_row(
    model: TaskModel, tasks: Sequence[TaskTensors], count: int | None = None, dropout: bool = False
) -> tuple[list[float], list[float]]:
    """Compute one row of the accuracy matrix and the corresponding row of losses.

    Args:
        model: The model to evaluate.
        tasks: The evaluation data of all T tasks.
        count: How many tasks, from the first on, are evaluated; None for all. The others have NaN in the rows.
        dropout: Whether dropout stays on, see `evaluate`.

    Returns:
        The accuracies, as fractions, and the mean losses in nats, T values each.
    """
    pairs = [evaluate(model, task, dropout) for task in tasks[:count]]
    missing = [math.nan] * (len(tasks) - len(pairs))
    return [*(accuracy for accuracy, _ in pairs), *missing], [*(loss for _, loss in pairs), *missing]
