"""Memories of past examples: a reservoir, one that keeps logits too, and a ring for each class.

All are kept on the training device, with images in the dtype in which they come (uint8), and are allocated once for
the whole stream. No code loops over examples, and adding a batch does not make a GPU wait: an example that is not kept
is written to one spare slot at the end, which is never sampled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.strategies.batch import Batch, tasks_of


class Memory(ABC):
    """Slots for images, labels and tasks, allocated when the first batch is added.

    Args:
        size: Number of slots; one spare slot is added.
        generator: The random generator to draw from.

    Raises:
        ValueError: if `size` is below 1.

    Attributes:
        size: Number of slots without the spare one.
        generator: The random generator.
        images: (size + 1, ...), in the shape and dtype of the first batch; None before it.
        labels: (size + 1,) int64.
        tasks: (size + 1,) int64, the number of each example's task.
    """

    def __init__(self, size: int, generator: np.random.Generator) -> None:
        if size < 1:
            raise ValueError(f"a memory needs at least one slot, has {size}")
        self.size, self.generator = size, generator
        self.images: Tensor | None = None
        self.labels = self.tasks = torch.empty(0)

    def begin_task(self, task: int, device: torch.device) -> None:
        """Set the task whose examples will be added. Does nothing here.

        Args:
            task: Its number, from 0.
            device: The training device.
        """

    @abstractmethod
    def add(self, batch: Batch) -> None:
        """Take in the examples of `batch`, or some of them."""

    @abstractmethod
    def sample(self, count: int) -> Batch:
        """Draw `count` different examples with equal probability, or all if there are fewer.

        Raises:
            RuntimeError: if there is none to draw.
        """

    def _write(self, slots: Tensor, batch: Batch) -> None:
        """Put each example of `batch` into its slot; slot number `size` is the spare one."""
        if self.images is None:
            shape = (self.size + 1, *batch.images.shape[1:])
            planes = len(shape) != 4 or batch.images.is_contiguous()
            layout = torch.contiguous_format if planes else torch.channels_last  # as that of the batches
            self.images = batch.images.new_zeros(shape).contiguous(memory_format=layout)
            self.labels = torch.zeros(self.size + 1, dtype=torch.int64, device=batch.images.device)
            self.tasks = self.labels.clone()
        self.images[slots] = batch.images
        self.labels[slots] = batch.labels
        self.tasks[slots] = tasks_of(batch)

    def _read(self, slots: Tensor) -> Batch:
        """The examples in `slots`. Raises RuntimeError if nothing was ever added."""
        if self.images is None:
            raise RuntimeError("the memory holds no example to sample")
        return Batch(self.images[slots], self.labels[slots], self.tasks[slots])

    def _draw(self, count: int, available: int) -> Tensor:
        """Draw `count` different numbers below `available`, or all if there are fewer. Raises RuntimeError for 0."""
        if available == 0:
            raise RuntimeError("the memory holds no example to sample")
        draw = self.generator.choice(available, min(count, available), replace=False)
        return _sent(draw, self.labels.device)

    def state_dict(self) -> dict[str, Any]:
        """The content of all slots, and the state of the random generator."""
        return {
            "images": self.images,
            "labels": self.labels,
            "tasks": self.tasks,
            "generator": self.generator.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.images = None if state["images"] is None else state["images"].clone()
        self.labels, self.tasks = state["labels"].clone(), state["tasks"].clone()
        self.generator.bit_generator.state = state["generator"]


class Reservoir(Memory):
    """A uniform sample of all examples seen so far.

    Each of them is in the reservoir with the same probability, min(1, size / seen) (Vitter 1985, algorithm R).

    Args:
        size: Number of slots.
        generator: The random generator to draw from.

    Raises:
        ValueError: if `size` is below 1.

    Attributes:
        seen: Number of examples offered so far.
    """

    def __init__(self, size: int, generator: np.random.Generator) -> None:
        super().__init__(size, generator)
        self.seen = 0

    def add(self, batch: Batch) -> None:
        """Offer every example of `batch` to the reservoir, in order."""
        self._write(self._slots_of_next(len(batch.labels), batch.labels.device), batch)

    def _slots_of_next(self, count: int, device: torch.device) -> Tensor:
        """Draw the slots of the next `count` examples: the spare one for those that are not kept."""
        numbers = self.seen + np.arange(count)
        slots = np.where(numbers < self.size, numbers, self.generator.integers(0, numbers + 1))
        slots = np.minimum(slots, self.size)
        # If several examples draw the same slot, the last one stays. An indexed write may keep any of them, so that the
        # others are sent to the spare slot.
        _, last = np.unique(slots[::-1], return_index=True)
        kept = np.full(len(slots), self.size)
        kept[len(slots) - 1 - last] = slots[len(slots) - 1 - last]
        self.seen += count
        return _sent(kept, device)

    def sample(self, count: int) -> Batch:
        """Draw `count` different examples with equal probability, or all of them if there are fewer.

        Raises:
            RuntimeError: if the reservoir is empty.
        """
        return self._read(self._draw(count, min(self.seen, self.size)))

    def state_dict(self) -> dict[str, Any]:
        """What every memory keeps, and the number of examples offered so far."""
        return super().state_dict() | {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        super().load_state_dict(state)
        self.seen = state["seen"]


class LogitReservoir(Reservoir):
    """A reservoir that keeps beside each example the logits that the network gave when it was offered.

    Args:
        size: Number of slots.
        generator: The random generator to draw from.

    Raises:
        ValueError: if `size` is below 1.

    Attributes:
        logits: (size + 1, outputs), in the dtype of the first ones; None before them.
    """

    def __init__(self, size: int, generator: np.random.Generator) -> None:
        super().__init__(size, generator)
        self.logits: Tensor | None = None

    def add_with_logits(self, batch: Batch, logits: Tensor) -> None:
        """Offer every example of `batch` to the reservoir, in order.

        Args:
            batch: n examples.
            logits: (n, outputs), without a graph.
        """
        slots = self._slots_of_next(len(batch.labels), batch.labels.device)
        self._write(slots, batch)
        if self.logits is None:
            self.logits = logits.new_zeros((self.size + 1, *logits.shape[1:]))
        self.logits[slots] = logits

    def sample_with_logits(self, count: int) -> tuple[Batch, Tensor]:
        """Draw examples as `sample` does, together with their logits.

        Returns:
            n examples, and (n, outputs).

        Raises:
            RuntimeError: if the reservoir is empty.
        """
        if self.logits is None:
            raise RuntimeError("the memory holds no example to sample")
        slots = self._draw(count, min(self.seen, self.size))
        return self._read(slots), self.logits[slots]

    def state_dict(self) -> dict[str, Any]:
        """What every reservoir keeps, and the logits."""
        return super().state_dict() | {"logits": self.logits}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        super().load_state_dict(state)
        self.logits = None if state["logits"] is None else state["logits"].clone()


class Ring(Memory):
    """The last `per_class` examples of each class of each task.

    A class that appears in two tasks counts twice. Call `begin_task` before the first batch of each task.

    Args:
        per_class: Number of examples to keep of each class of each task.
        classes: For each task, the indices of the network's outputs that stand for its classes.
        generator: The random generator to draw from.

    Raises:
        ValueError: if there is no slot.

    Attributes:
        per_class: Number of examples to keep of each class of each task.
        classes: For each task, the outputs of its classes.
        counts: (classes of all tasks,) int64, the number of examples added so far of each class.
        place: (outputs,) int64, for each output of the present task the number of its class among those of all tasks.
        earlier: The slots that hold examples of earlier tasks, which are all but the present one.
    """

    def __init__(self, per_class: int, classes: list[list[int]], generator: np.random.Generator) -> None:
        super().__init__(per_class * sum(len(outputs) for outputs in classes), generator)
        self.per_class, self.classes = per_class, classes
        self.counts = torch.zeros(sum(len(outputs) for outputs in classes), dtype=torch.int64)
        self.place = torch.empty(0)
        self.earlier = torch.empty(0, dtype=torch.int64)

    def begin_task(self, task: int, device: torch.device) -> None:
        """Set the task whose examples will be added, and sample from all others that came before it.

        Args:
            task: Its number, from 0.
            device: The training device.
        """
        self.counts = self.counts.to(device)
        first = sum(len(outputs) for outputs in self.classes[:task])
        filled = torch.arange(self.per_class, device=device) < self.counts[:, None]
        filled[first : first + len(self.classes[task])] = False  # a task that is visited again is no earlier one
        self.earlier = filled.flatten().nonzero().flatten()
        # For each output of the present task, the number of its class among the classes of all tasks.
        self.place = torch.zeros(1 + max(max(outputs) for outputs in self.classes), dtype=torch.int64, device=device)
        self.place[self.classes[task]] = torch.arange(first, first + len(self.classes[task]), device=device)

    def add(self, batch: Batch) -> None:
        """Write every example of `batch`, which is of the present task, over the oldest one of its class."""
        place = self.place[batch.labels]
        same = place[:, None] == place
        before = same.tril(-1).sum(dim=1)  # earlier examples of the same class in this batch
        after = same.triu(1).sum(dim=1)
        slots = place * self.per_class + (self.counts[place] + before) % self.per_class
        self._write(torch.where(after < self.per_class, slots, self.size), batch)
        self.counts.index_add_(0, place, torch.ones_like(place))

    def slots_of_tasks(self, task: int) -> list[tuple[int, Tensor]]:
        """Where the examples of each earlier task are. Reads the counts of the classes, for which a GPU waits.

        Args:
            task: The number of the present task, from 0.

        Returns:
            The number of each other task of which there are examples, in order, and their slots, (n,) int64.
        """
        filled = self.counts.clamp_max(self.per_class).tolist()
        found, first = [], 0
        for number, outputs in enumerate(self.classes):
            of_classes = range(first, first + len(outputs))
            slots = [place * self.per_class + row for place in of_classes for row in range(filled[place])]
            if slots and number != task:
                found.append((number, torch.tensor(slots, device=self.counts.device)))
            first += len(outputs)
        return found

    def at(self, slots: Tensor) -> Batch:
        """The examples in these slots.

        Raises:
            RuntimeError: if nothing was ever added.
        """
        return self._read(slots)

    def sample(self, count: int) -> Batch:
        """Draw `count` different examples of earlier tasks with equal probability, or all if there are fewer.

        Raises:
            RuntimeError: if there is no example of an earlier task.
        """
        return self._read(self.earlier[self._draw(count, len(self.earlier))])

    def state_dict(self) -> dict[str, Any]:
        """What every memory keeps, the counts of the classes, and what `begin_task` has set."""
        return super().state_dict() | {"counts": self.counts, "place": self.place, "earlier": self.earlier}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        super().load_state_dict(state)
        self.counts, self.place, self.earlier = (state[key].clone() for key in ("counts", "place", "earlier"))


def _sent(numbers: np.ndarray, device: torch.device) -> Tensor:
    """Numbers as a tensor on a device. CUDA has copied them before this returns; Apple's GPUs might read them too late."""
    return torch.from_numpy(numbers).to(device, non_blocking=device.type == "cuda")
