"""Rows of the accuracy matrix: how well a network does on every task of the stream."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from pipeline.models import TaskModel, TaskTensors

#: Images a forward pass; enough to keep a processor busy, small enough for any memory.
CHUNK = 1000


@torch.no_grad()
def evaluate(model: TaskModel, task: TaskTensors) -> tuple[float, float]:
    """Accuracy (a fraction) and mean cross-entropy (nats) on one task, in eval mode; the model's mode is restored."""
    mode = model.training
    model.eval()
    correct, loss = 0, 0.0
    for images, labels in zip(torch.split(task.images, CHUNK), torch.split(task.labels, CHUNK), strict=True):
        logits = model(images, task.task)
        correct += int((logits.argmax(dim=1) == labels).sum())
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
    model.train(mode)
    return correct / len(task), loss / len(task)


def accuracy_row(model: TaskModel, tasks: Iterable[TaskTensors]) -> tuple[list[float], list[float]]:
    """One row of the accuracy matrix, and the losses beside it."""
    pairs = [evaluate(model, task) for task in tasks]
    return [accuracy for accuracy, _ in pairs], [loss for _, loss in pairs]
