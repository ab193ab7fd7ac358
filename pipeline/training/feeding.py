"""Which examples come when: the order of a stream, as batches on the training device."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.config.regimes import TrainingPlan
from pipeline.models import TaskTensors, load_task
from pipeline.strategies import Batch, Naive
from pipeline.streams.reader import Tasks


class Sequential:
    """One task after the other, as the strategy visits them; each visit shuffles the task once an epoch.

    order: the run's random stream for the order of examples.
    """

    def __init__(
        self,
        tasks: Tasks,
        strategy: Naive,
        training: TrainingPlan,
        outputs: Sequence[Sequence[int]],
        order: np.random.Generator,
        device: torch.device,
    ) -> None:
        self.tasks, self.strategy, self.training, self.outputs = tasks, strategy, training, outputs
        self.order, self.device = order, device

    def steps(self) -> int:
        """Steps over the whole stream."""
        visits = [task for part in range(len(self.tasks)) for task in self.strategy.visits(part, len(self.tasks))]
        sizes = [math.ceil(len(self.tasks.split(task, "train")[1]) / self.training.batch_size) for task in visits]
        return self.training.epochs * sum(sizes)

    def visits(self, part: int) -> Iterator[tuple[TaskTensors, Iterator[Batch]]]:
        """For each visit before row `part` + 1 of the accuracy matrix: the task's training data, and its batches."""
        for number in self.strategy.visits(part, len(self.tasks)):
            task = load_task(self.tasks, number, "train", self.outputs, self.device)
            yield task, self._batches(task)

    def position(self) -> dict[str, Any]:
        """The state of the order of examples, as it is before a visit."""
        return dict(self.order.bit_generator.state)

    def go_to(self, position: dict[str, Any]) -> None:
        """Set it back to what `position` gave."""
        self.order.bit_generator.state = position

    def _batches(self, task: TaskTensors) -> Iterator[Batch]:
        for _ in range(self.training.epochs):
            shuffle = torch.from_numpy(self.order.permutation(len(task))).to(self.device)
            images = torch.split(task.images[shuffle], self.training.batch_size)
            labels = torch.split(task.labels[shuffle], self.training.batch_size)
            yield from (Batch(*pair, task.task) for pair in zip(images, labels, strict=True))


class Joint(Sequential):
    """The examples of all tasks mixed: all epochs' shuffles in a row, cut into as many parts as there are tasks."""

    def steps(self) -> int:
        """Steps over the whole stream."""
        sizes = [len(self.tasks.split(task, "train")[1]) for task in range(len(self.tasks))]
        return self.training.epochs * math.ceil(sum(sizes) / self.training.batch_size)

    def visits(self, part: int) -> Iterator[tuple[TaskTensors, Iterator[Batch]]]:
        """One visit a part."""
        if not hasattr(self, "shuffles"):
            loaded = [
                load_task(self.tasks, task, "train", self.outputs, self.device) for task in range(len(self.tasks))
            ]
            self.images = torch.cat([task.images for task in loaded])
            self.labels = torch.cat([task.labels for task in loaded])
            self.task_of = torch.cat([torch.full_like(task.labels, task.task) for task in loaded])
            self.shuffles = [
                shuffled
                for _ in range(self.training.epochs)
                for shuffled in torch.split(self._shuffle(), self.training.batch_size)
            ]
        chosen = np.array_split(np.arange(len(self.shuffles)), len(self.tasks))[part]
        task = load_task(self.tasks, part, "train", self.outputs, self.device)
        yield task, (self._batch(self.shuffles[index]) for index in chosen)

    def position(self) -> dict[str, Any]:
        """Nothing: all shuffles are drawn at the start, from the run's seed."""
        return {}

    def go_to(self, position: dict[str, Any]) -> None:
        """Nothing."""

    def _batch(self, examples: Tensor) -> Batch:
        return Batch(self.images[examples], self.labels[examples], self.task_of[examples])

    def _shuffle(self) -> Tensor:
        return torch.from_numpy(self.order.permutation(len(self.labels))).to(self.device)
