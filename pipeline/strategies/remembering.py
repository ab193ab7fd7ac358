"""What the strategies that keep past examples share."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pipeline.config.strategies import StrategySettings
from pipeline.models import TaskTensors
from pipeline.strategies.batch import Stream
from pipeline.strategies.memory import Memory
from pipeline.strategies.naive import Naive

M = TypeVar("M", bound=Memory)


class Remembering(Naive, Generic[M]):
    """A strategy with a memory. task: the number of the present one, from 0; on the first there is nothing to recall."""

    def __init__(self, plan: StrategySettings, stream: Stream, memory: M) -> None:
        super().__init__(plan, stream)
        self.memory = memory
        self.task = 0

    def begin_task(self, task: TaskTensors) -> None:
        """Know whether there is anything to recall."""
        self.task = task.task

    def state_dict(self) -> dict[str, Any]:
        """The memory and the task."""
        return {"memory": self.memory.state_dict(), "task": self.task}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.memory.load_state_dict(state["memory"])
        self.task = state["task"]
