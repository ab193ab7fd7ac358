"""SI: synaptic intelligence (Zenke, Poole and Ganguli 2017, arXiv 1703.04200)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipeline.config.strategies import SISettings
from pipeline.models import TaskModel, TaskTensors
from pipeline.strategies.batch import Batch, Stream, trained
from pipeline.strategies.penalty import Penalised, copies, gradients, weights


class SI(Penalised):
    """The gradient of the loss, plus that of a penalty on moving weights on whose path the loss of earlier tasks fell.

        penalty = c sum_i Omega_i (theta_i - theta*_i)^2
        omega_i = - sum over the steps of a task of g_i (change of theta_i)              (SI, eq. 3)
        Omega_i = sum over tasks of max(0, omega_i / ((theta_i - theta*_i)^2 + xi))      (SI, eq. 5)

    g is the gradient of the batch's loss without the penalty, and the change of theta is what the update rule made of the
    gradient with it. In eq. 5 theta are the weights after a task and theta* those before it. xi is the setting `damping`.
    Negative parts are dropped at the end of each task, as in the code of A-GEM's authors.

    Args:
        plan: The settings.
        stream: What the strategy needs to know of the stream.

    Attributes:
        importance: Omega, one tensor per trained parameter; empty before the first task ends.
        anchor: theta*, likewise; empty before the first step.
        path: omega of the present task so far, likewise.
    """

    plan: SISettings

    def __init__(self, plan: SISettings, stream: Stream) -> None:
        super().__init__(plan, stream)
        self.path: list[Tensor] = []
        # What `after_step` needs of the step that is being made. A run is never saved between the two.
        self._before: list[Tensor] = []
        self._gradients: list[Tensor] = []

    @property
    def weight(self) -> float:
        """c, the weight of the penalty."""
        return self.plan.si_c

    def backward(self, model: TaskModel, batch: Batch) -> Tensor:
        """Leave the gradient of the batch's loss and of the penalty in `.grad`.

        Args:
            model: The network.
            batch: The examples of this step.

        Returns:
            The loss of the batch, without the penalty, detached.
        """
        if not self.anchor:  # the first step of the run
            self.anchor = weights(model)
            self.path = [torch.zeros_like(tensor) for tensor in self.anchor]
        return super().backward(model, batch)

    def observe(self, model: TaskModel) -> None:
        """Keep the gradient and the weights before the step."""
        # Before the first penalty the update rule is given these very tensors, which clipping may change.
        self._gradients = gradients(model) if self.importance else copies(gradients(model))
        self._before = weights(model)

    @torch.no_grad()
    def after_step(self, model: TaskModel) -> None:
        """Add the product of gradient and change to the path.

        Args:
            model: The network, with the weights after the step.
        """
        moved = torch._foreach_sub(trained(model), self._before)
        torch._foreach_addcmul_(self.path, self._gradients, moved, value=-1)
        self._before, self._gradients = [], []

    @torch.no_grad()
    def end_task(self, model: TaskModel, task: TaskTensors) -> None:
        """Add the task's part to the importance, and keep the weights as theta*.

        Args:
            model: The network.
            task: The training data of the task.
        """
        distances = torch._foreach_sub(trained(model), self.anchor)
        distances = torch._foreach_mul(distances, distances)
        torch._foreach_add_(distances, self.plan.damping)
        new = list(torch._foreach_div(self.path, distances))
        torch._foreach_clamp_min_(new, 0.0)
        if self.importance:
            torch._foreach_add_(new, self.importance)
        self.importance, self.anchor = new, weights(model)
        torch._foreach_zero_(self.path)

    def state_dict(self) -> dict[str, Any]:
        """The importance, the anchor and the path."""
        return super().state_dict() | {"path": self.path}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        super().load_state_dict(state)
        self.path = copies(state["path"])
