"""Continual evaluation: the accuracies on the tasks so far every few steps, not only when a task has been learnt."""

from __future__ import annotations

import torch

from pipeline.models import TaskTensors
from pipeline.training.recorder import Recorder
from pipeline.training.run import Run


class Continual:
    """Evaluates a run every `evaluate_every` steps of its plan, and after the last step of each task.

    It draws no random numbers that the training uses and changes no weights, so that the run has the same numbers
    without it. Where the plan does not ask for it, it does nothing.

    Args:
        run: The run.
        recorder: Where the accuracies are recorded, and which counts the steps of the current task.
    """

    def __init__(self, run: Run, recorder: Recorder) -> None:
        self.run, self.recorder, self.every = run, recorder, run.plan.training.evaluate_every
        self.tests = [some(task, run.plan.training.evaluate_images) for task in run.tests] if self.every else []

    def step(self, task: int) -> None:
        """Evaluate if the steps of the task so far are a multiple of `evaluate_every`.

        Args:
            task: The number of the current task, from 0.
        """
        if self.every is not None and len(self.recorder.losses) % self.every == 0:
            self._evaluate(task)

    def end_task(self, task: int) -> None:
        """Evaluate after the last step of a task, unless `step` has done so.

        Args:
            task: The number of the task, from 0.
        """
        if self.every is not None and self.recorder.evaluated_at != len(self.recorder.losses):
            self._evaluate(task)

    def _evaluate(self, task: int) -> None:
        # Distinct from the numbers of tasks, which are the moments of the rows of the accuracy matrix.
        moment = len(self.recorder.losses) << 16 | task + 1
        accuracy, _ = self.run.evaluate_on(self.tests[: task + 1], moment=moment)
        self.recorder.evaluated_within(accuracy)


def some(task: TaskTensors, count: int | None) -> TaskTensors:
    """Choose examples of a task at even distances, which the order by label makes an even share of each class.

    Args:
        task: The examples, n of them.
        count: How many to choose, at most; None for all.
    """
    if count is None or count >= len(task):
        return task
    chosen = torch.arange(count, device=task.labels.device) * len(task) // count
    return TaskTensors(task.task, task.images[chosen], task.labels[chosen])
