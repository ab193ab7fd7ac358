"""The order in which a run sees the examples of a stream, as batches on the training device."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.config.regimes import TrainingPlan
from pipeline.models import TaskTensors, load_task
from pipeline.strategies import Batch, Strategy
from pipeline.streams.reader import Tasks
from pipeline.support.errors import UserError


class Sequential:
    """Feeds one task after another, as the strategy visits them; each epoch of a visit shuffles the task anew.

    Training is divided into T parts. After part t (from 0), row t + 1 of the accuracy matrix is evaluated.

    Args:
        tasks: The stream of T tasks.
        strategy: Decides which tasks are visited in each part.
        training: Batch size and epochs.
        outputs: For each task, the network's outputs for its classes.
        order: The random stream of the run that shuffles the examples.
        device: Where the batches are placed.
    """

    def __init__(
        self,
        tasks: Tasks,
        strategy: Strategy,
        training: TrainingPlan,
        outputs: Sequence[Sequence[int]],
        order: np.random.Generator,
        device: torch.device,
    ) -> None:
        self.tasks, self.strategy, self.training, self.outputs = tasks, strategy, training, outputs
        self.order, self.device = order, device

    def steps(self) -> int:
        """Count the steps over the whole stream."""
        visits = [task for part in range(len(self.tasks)) for task in self.strategy.visits(part, len(self.tasks))]
        sizes = [math.ceil(self.tasks.count(task, "train") / self.training.batch_size) for task in visits]
        return self.training.epochs * sum(sizes)

    def visits(self, part: int) -> Iterator[tuple[TaskTensors, Iterator[Batch]]]:
        """Yield, for each visit of a part, the training data of the visited task and an iterator over its batches.

        Args:
            part: The part of the training, from 0 to T - 1.
        """
        for number in self.strategy.visits(part, len(self.tasks)):
            task = load_task(self.tasks, number, "train", self.outputs, self.device)
            yield task, self._batches(task)

    def position(self) -> dict[str, Any]:
        """Return the state of the random stream that shuffles the examples, to be taken before a visit begins."""
        return dict(self.order.bit_generator.state)

    def go_to(self, position: dict[str, Any]) -> None:
        """Restore a state that `position` returned."""
        self.order.bit_generator.state = position

    def _batches(self, task: TaskTensors) -> Iterator[Batch]:
        for _ in range(self.training.epochs):
            shuffle = torch.from_numpy(self.order.permutation(len(task))).to(self.device)
            images = torch.split(task.images[shuffle], self.training.batch_size)
            labels = torch.split(task.labels[shuffle], self.training.batch_size)
            yield from (Batch(*pair, task.task) for pair in zip(images, labels, strict=True))


class Joint(Sequential):
    """Feeds the mixed examples of all tasks.

    Every epoch shuffles all examples and cuts them into batches; the sequence of the batches of all epochs is then
    divided evenly into T parts.
    """

    def steps(self) -> int:
        """Count the steps over the whole stream."""
        sizes = [self.tasks.count(task, "train") for task in range(len(self.tasks))]
        return self.training.epochs * math.ceil(sum(sizes) / self.training.batch_size)

    def visits(self, part: int) -> Iterator[tuple[TaskTensors, Iterator[Batch]]]:
        """Yield a single visit: the training data of task `part`, and the batches of this part, which mix all tasks."""
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
            if len(self.shuffles) < len(self.tasks):
                raise UserError(
                    f"multi-task: batches of {self.training.batch_size} make {len(self.shuffles)} steps, fewer than the "
                    f"{len(self.tasks)} tasks, after each of which the network is measured; lower training.batch_size or "
                    "raise training.epochs"
                )
        chosen = np.array_split(np.arange(len(self.shuffles)), len(self.tasks))[part]
        task = load_task(self.tasks, part, "train", self.outputs, self.device)
        yield task, (self._batch(self.shuffles[index]) for index in chosen)

    def position(self) -> dict[str, Any]:
        """Return an empty state, because all shuffles are drawn at the start, from the seed of the run."""
        return {}

    def go_to(self, position: dict[str, Any]) -> None:
        """Do nothing, because there is no state to restore."""

    def _batch(self, examples: Tensor) -> Batch:
        return Batch(self.images[examples], self.labels[examples], self.task_of[examples])

    def _shuffle(self) -> Tensor:
        return torch.from_numpy(self.order.permutation(len(self.labels))).to(self.device)
