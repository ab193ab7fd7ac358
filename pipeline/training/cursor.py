"""The position of a run in its stream, and how a run resumes after it was killed.

The training loop iterates over tasks, visits and batches through a `Cursor`, whose iterators advance the position. A
cursor that is restored from a saved state starts in the middle of the stream, with the order of the examples and the
whole state of the run as they were at that point.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from pipeline.models import TaskTensors
from pipeline.strategies import Batch
from pipeline.support.scratch import Scratch
from pipeline.training.recorder import Recorder
from pipeline.training.run import Run, random_state, set_random_state


class Cursor:
    """The position of the next batch of a run.

    If `scratch` holds a state, the run and its recorder are restored from it. While the run continues, its state is
    saved there after each task but the last, and within a task whenever `scratch.due` says so.

    Args:
        run: The run, as built for its first step.
        recorder: The recorder of the run.
        scratch: Where states are loaded and saved; None to do neither.

    Attributes:
        task: The number of the current task, from 0.
        visit: The number of the current visit within the task, from 0.
        batch: The number of the next batch within the visit, from 0.
        steps: The steps done so far in the whole run.
        resumed: Whether the run was restored from a saved state.
    """

    def __init__(self, run: Run, recorder: Recorder, scratch: Scratch | None) -> None:
        self.run, self.recorder, self.scratch = run, recorder, scratch
        self.task = self.visit = self.batch = self.steps = 0
        #: The state of the example order at the start of the current visit, if it still has to be restored; else None.
        self._order: dict[str, Any] | None = None
        self._bar: Any = None
        kept = scratch.load() if scratch else None
        self.resumed = kept is not None
        if kept is not None:
            self._load(kept)

    @property
    def task_begins(self) -> bool:
        """Whether the current task has not been trained on any batch yet."""
        return self.visit == 0 and self.batch == 0

    @property
    def visit_begins(self) -> bool:
        """Whether the current visit has not been trained on any batch yet."""
        return self.batch == 0

    def tasks(self) -> Iterator[int]:
        """Yield the numbers of the tasks from the current one on, with a progress bar."""
        count, title = len(self.run.tests), f"train {self.run.plan.method}-{self.run.seed}"
        with tqdm(
            total=self.run.feed.steps(), initial=self.steps, unit="step", desc=title, disable=None, leave=False
        ) as bar:
            self._bar = bar
            while self.task < count:
                bar.set_postfix_str(f"task {self.task + 1}/{count}")
                yield self.task
                self.task, self.visit, self.batch = self.task + 1, 0, 0
                if self.scratch and self.task < count:
                    self.scratch.save(f"task {self.task + 1}", self._state(self.run.feed.position()))

    def visits(self) -> Iterator[tuple[TaskTensors, Iterator[Batch]]]:
        """Yield the visits of the current task from the current visit on.

        Each is a pair: the training data of the visited task, and an iterator over the batches that are left.
        """
        feed = self.run.feed
        if self._order is not None:
            feed.go_to(self._order)
            self._order = None
        for number, (task, batches) in enumerate(feed.visits(self.task)):
            if number >= self.visit:
                yield task, self._batches(batches, feed.position())
                self.visit, self.batch = number + 1, 0

    def _batches(self, batches: Iterator[Batch], order: dict[str, Any]) -> Iterator[Batch]:
        for batch in islice(batches, self.batch, None):
            yield batch
            self.batch, self.steps = self.batch + 1, self.steps + 1
            if self._bar is not None:
                self._bar.update()
            if self.scratch and self.scratch.due():
                self.scratch.save(f"task {self.task + 1}, step {len(self.recorder.losses)}", self._state(order))

    def _state(self, order: dict[str, Any]) -> dict[str, Any]:
        """Everything that `_load` restores. `order` is the state of the example order before the current visit."""
        run = self.run
        return {
            "at": (self.task, self.visit, self.batch, self.steps),
            "order": order,
            "model": run.model.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "strategy": run.strategy.state_dict(),
            "recorder": self.recorder.state_dict(),
            "dropout": random_state(run.device),
        }

    def _load(self, state: dict[str, Any]) -> None:
        """Restore the run, its recorder and the random state from `state`, bit for bit."""
        run = self.run
        self.task, self.visit, self.batch, self.steps = state["at"]
        self._order = state["order"]
        run.model.load_state_dict(state["model"])
        run.optimizer.load_state_dict(state["optimizer"])
        run.strategy.load_state_dict(_on(run.device, state["strategy"]))
        self.recorder.load_state_dict(state["recorder"])
        set_random_state(state["dropout"], run.device)


def _on(device: torch.device, state: Any) -> Any:
    """Move the tensors in nested containers to a device."""
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {key: _on(device, value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_on(device, value) for value in state)
    return state
