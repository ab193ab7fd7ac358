"""Online EWC, with a Fisher information that is taken while training.

The moving average is that of EWC++ (Chaudhry et al. 2018, arXiv 1801.10112); a single penalty at the weights after the last
task is that of online EWC (Schwarz et al. 2018, arXiv 1805.06370).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipeline.config.strategies import OnlineEWCSettings
from pipeline.models import TaskModel, TaskTensors
from pipeline.strategies.batch import Stream
from pipeline.strategies.penalty import Penalised, copies, gradients, weights


class OnlineEWC(Penalised):
    """The gradient of the loss, plus that of a penalty weighed by a moving average of squared gradients.

        penalty = lambda sum_i F_i (theta_i - theta*_i)^2
        A <- (1 - a) A + a mean over k steps of g^2     after every k steps
        F = (A - min A) / (max A - min A)               after every task

    g is the gradient of the batch's mean loss, without the penalty; k is `fisher_interval` and a is `fisher_decay`. A runs
    on from task to task, from zero. Minimum and maximum are those over all parameters. The steps at the end of a task that
    fill no interval are left out, unless the task has no others.

    Args:
        plan: The settings.
        stream: What the strategy needs to know of the stream.

    Attributes:
        importance: F, one tensor per trained parameter; empty before the first task ends.
        anchor: theta*, likewise.
        average: A, likewise; empty before the first step.
        squares: The sum of g^2 over the steps of the present interval, likewise.
        steps: Number of these steps.
        intervals: Number of whole intervals in the present task.
    """

    plan: OnlineEWCSettings

    def __init__(self, plan: OnlineEWCSettings, stream: Stream) -> None:
        super().__init__(plan, stream)
        self.average: list[Tensor] = []
        self.squares: list[Tensor] = []
        self.steps = self.intervals = 0

    @property
    def weight(self) -> float:
        """lambda, the weight of the penalty."""
        return self.plan.ewc_lambda

    @torch.no_grad()
    def observe(self, model: TaskModel) -> None:
        """Add the squared gradient, and after a whole interval the mean of the squares to the moving average."""
        new = gradients(model)
        if not self.average:
            self.average = [torch.zeros_like(tensor) for tensor in new]
            self.squares = [torch.zeros_like(tensor) for tensor in new]
        torch._foreach_addcmul_(self.squares, new, new)
        self.steps += 1
        if self.steps == self.plan.fisher_interval:
            self._end_interval()

    def _end_interval(self) -> None:
        torch._foreach_mul_(self.average, 1 - self.plan.fisher_decay)
        torch._foreach_add_(self.average, self.squares, alpha=self.plan.fisher_decay / self.steps)
        torch._foreach_zero_(self.squares)
        self.steps, self.intervals = 0, self.intervals + 1

    @torch.no_grad()
    def end_task(self, model: TaskModel, task: TaskTensors) -> None:
        """Take the importance from the moving average, and keep the weights as theta*.

        Args:
            model: The network.
            task: The training data of the task.
        """
        if self.steps and not self.intervals:
            self._end_interval()
        torch._foreach_zero_(self.squares)
        self.steps = self.intervals = 0
        low = torch.stack([tensor.min() for tensor in self.average]).min()
        high = torch.stack([tensor.max() for tensor in self.average]).max()
        width = (high - low).clamp_min(torch.finfo(high.dtype).tiny)
        self.importance = [(tensor - low) / width for tensor in self.average]
        self.anchor = weights(model)

    def state_dict(self) -> dict[str, Any]:
        """The importance, the anchor, and the moving average with the interval that is under way."""
        return super().state_dict() | {
            "average": self.average,
            "squares": self.squares,
            "steps": self.steps,
            "intervals": self.intervals,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        super().load_state_dict(state)
        self.average, self.squares = copies(state["average"]), copies(state["squares"])
        self.steps, self.intervals = state["steps"], state["intervals"]
