"""Memories of past examples: a ring for each class, and a reservoir.

Both live on the training device and keep images as they come (uint8), sized once for the whole stream. Nothing loops over
examples, and adding makes no GPU wait: an example that is not kept goes to one spare slot at the end, which is never
sampled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.strategies.batch import Batch


class Memory:
    """`size` slots for images, labels and tasks, allocated at the first batch."""

    def __init__(self, size: int, generator: np.random.Generator) -> None:
        if size < 1:
            raise ValueError(f"a memory needs at least one slot, has {size}")
        self.size, self.generator = size, generator
        self.images: Tensor | None = None
        self.labels = self.tasks = torch.empty(0)

    def _write(self, slots: Tensor, batch: Batch) -> None:
        """Put each example of `batch` into its slot; `size` is the spare one."""
        if self.images is None:
            shape = (self.size + 1, *batch.images.shape[1:])
            layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format  # as the batches come
            self.images = batch.images.new_zeros(shape).contiguous(memory_format=layout)
            self.labels = torch.zeros(self.size + 1, dtype=torch.int64, device=batch.images.device)
            self.tasks = self.labels.clone()
        self.images[slots] = batch.images
        self.labels[slots] = batch.labels
        self.tasks[slots] = torch.as_tensor(batch.task, device=self.tasks.device).expand(len(batch.labels))

    def _read(self, slots: Tensor) -> Batch:
        """The examples in `slots`."""
        if self.images is None:
            raise RuntimeError("the memory is empty")
        return Batch(self.images[slots], self.labels[slots], self.tasks[slots])

    def _draw(self, count: int, available: int) -> Tensor:
        """`count` (or all, where fewer are there) different numbers below `available`. Raises RuntimeError for none."""
        if available == 0:
            raise RuntimeError("the memory is empty")
        draw = self.generator.choice(available, min(count, available), replace=False)
        return torch.from_numpy(draw).to(self.labels.device, non_blocking=True)

    def state_dict(self) -> dict[str, Any]:
        """All slots, and the state of the random stream."""
        return {
            "images": self.images,
            "labels": self.labels,
            "tasks": self.tasks,
            "generator": self.generator.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.images = None if state["images"] is None else state["images"].clone()
        self.labels, self.tasks = state["labels"].clone(), state["tasks"].clone()
        self.generator.bit_generator.state = state["generator"]


class Reservoir(Memory):
    """A uniform sample of everything seen: each example is kept with the same probability (Vitter 1985, algorithm R)."""

    def __init__(self, size: int, generator: np.random.Generator) -> None:
        super().__init__(size, generator)
        self.seen = 0

    def add(self, batch: Batch) -> None:
        """Offer every example of `batch`, in order."""
        numbers = self.seen + np.arange(len(batch.labels))
        slots = np.where(numbers < self.size, numbers, self.generator.integers(0, numbers + 1))
        slots = np.minimum(slots, self.size)
        # Of two that take the same slot the later stays. A scatter keeps either: send all others to the spare slot.
        _, last = np.unique(slots[::-1], return_index=True)
        kept = np.full(len(slots), self.size)
        kept[len(slots) - 1 - last] = slots[len(slots) - 1 - last]
        self._write(torch.from_numpy(kept).to(batch.labels.device, non_blocking=True), batch)
        self.seen += len(slots)

    def sample(self, count: int) -> Batch:
        """`count` different examples (all, where fewer are there), evenly."""
        return self._read(self._draw(count, min(self.seen, self.size)))

    def state_dict(self) -> dict[str, Any]:
        """Also how many examples were offered."""
        return super().state_dict() | {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        super().load_state_dict(state)
        self.seen = state["seen"]


class Ring(Memory):
    """The last `per_class` examples of every class of every task.

    classes: for each task the network's outputs of its classes; the same class in two tasks counts twice.
    """

    def __init__(self, per_class: int, classes: list[list[int]], generator: np.random.Generator) -> None:
        super().__init__(per_class * sum(len(outputs) for outputs in classes), generator)
        self.per_class, self.classes = per_class, classes
        self.counts = torch.zeros(sum(len(outputs) for outputs in classes), dtype=torch.int64)
        self.place = torch.empty(0)
        self.earlier = torch.empty(0, dtype=torch.int64)

    def begin_task(self, task: int, device: torch.device) -> None:
        """Set the tasks before `task` as those to sample from."""
        self.counts = self.counts.to(device)
        first = sum(len(outputs) for outputs in self.classes[:task])
        filled = torch.arange(self.per_class, device=device) < self.counts[:first, None]
        self.earlier = filled.flatten().nonzero().flatten()
        # Of each output the number of its class among the classes of all tasks.
        self.place = torch.zeros(1 + max(max(outputs) for outputs in self.classes), dtype=torch.int64, device=device)
        self.place[self.classes[task]] = torch.arange(first, first + len(self.classes[task]), device=device)

    def add(self, batch: Batch) -> None:
        """Write every example of the present task over the oldest of its class."""
        place = self.place[batch.labels]
        same = place[:, None] == place
        before = same.tril(-1).sum(dim=1)  # examples of the class earlier in the batch
        after = same.triu(1).sum(dim=1)
        slots = place * self.per_class + (self.counts[place] + before) % self.per_class
        self._write(torch.where(after < self.per_class, slots, self.size), batch)
        self.counts.index_add_(0, place, torch.ones_like(place))

    def sample(self, count: int) -> Batch:
        """`count` different examples of the earlier tasks (all, where fewer are there), evenly."""
        return self._read(self.earlier[self._draw(count, len(self.earlier))])

    def state_dict(self) -> dict[str, Any]:
        """Also what each class has seen, and the present task's places."""
        return super().state_dict() | {"counts": self.counts, "place": self.place, "earlier": self.earlier}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        super().load_state_dict(state)
        self.counts, self.place, self.earlier = (state[key].clone() for key in ("counts", "place", "earlier"))
