"""The base class of strategies that keep past examples in a memory."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from torch import Tensor

from pipeline.config.strategies import StrategySettings
from pipeline.models import TaskTensors
from pipeline.strategies.batch import Batch, Stream
from pipeline.strategies.memory import Memory
from pipeline.strategies.strategy import Strategy

M = TypeVar("M", bound=Memory)


class Remembering(Strategy, Generic[M]):
    """A strategy with a memory.

    On the first task the memory holds no example of an earlier task, and there is nothing to recall. Tasks may come in any
    order, and again.

    Args:
        plan: The settings of the strategy.
        stream: What the strategy needs to know of the stream.
        memory: Where past examples are kept.

    Attributes:
        memory: Where past examples are kept.
        task: The number of the present task, from 0.
        begun: The numbers of all tasks begun so far, in the order of their first visits.
    """

    def __init__(self, plan: StrategySettings, stream: Stream, memory: M) -> None:
        super().__init__(plan, stream)
        self.memory = memory
        self.task = 0
        self.begun: list[int] = []

    def begin_task(self, task: TaskTensors) -> None:
        """Note the number of the task, which tells whether there are earlier ones to recall, and tell the memory."""
        self.task = task.task
        if task.task not in self.begun:
            self.begun.append(task.task)
        self.memory.begin_task(task.task, task.labels.device)

    def refuse_other_tasks(self, batch: Batch) -> None:
        """Refuse a batch of a task that was not begun: a ring would write it over the examples of another class.

        Raises:
            ValueError: if the batch is of one task, and it is not the present one.
        """
        if not isinstance(batch.task, Tensor) and batch.task != self.task:  # numbers of the host: no GPU waits
            raise ValueError(
                f"{self.plan.name}: a batch of task {batch.task} (from 0) while task {self.task} is the present one; call "
                "begin_task before the first batch of each visit to a task"
            )

    @property
    def has_earlier(self) -> bool:
        """Whether another task than the present one was begun before."""
        return any(task != self.task for task in self.begun)

    @property
    def recalled(self) -> int:
        """The size of a memory batch: `memory_batch` if it is set, else the batch size."""
        return self.plan.value_of("memory_batch") or self.stream.batch_size

    def recall(self) -> Batch:
        """Draw a memory batch of `recalled` examples, or of all if there are fewer.

        Raises:
            RuntimeError: if the memory holds no example to draw.
        """
        return self.memory.sample(self.recalled)

    def state_dict(self) -> dict[str, Any]:
        """The state of the memory, and the numbers of the present task and of all begun so far."""
        return {"memory": self.memory.state_dict(), "task": self.task, "begun": list(self.begun)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.memory.load_state_dict(state["memory"])
        self.task = state["task"]
        # States of earlier versions lack them; there the tasks went 0, 1, 2, ...
        self.begun = list(state.get("begun", range(self.task + 1)))
