"""EWC: elastic weight consolidation (Kirkpatrick et al. 2017, arXiv 1612.00796)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipeline.config.strategies import EWCSettings
from pipeline.models import TaskModel, TaskTensors
from pipeline.strategies import published
from pipeline.strategies.batch import Batch, Stream
from pipeline.strategies.fisher import batch_fisher, exact_fisher
from pipeline.strategies.penalty import Penalised, weights


class EWC(Penalised):
    """The gradient of the loss, plus that of a penalty on moving away from the weights of the task learnt last.

        penalty = lambda sum_i F_i (theta_i - theta*_i)^2

    theta* are the weights after the task learnt last. F is the running mean over the tasks so far of the diagonal
    Fisher information, which the setting `fisher` selects: `batch` is the squared gradient of the mean loss of one
    batch of `fisher_batch` training examples; `exact` is the textbook's, the mean over all training examples of the
    task; for `published` see `pipeline.strategies.published.fisher` and `share`. Before it is added, the gradient of
    the penalty is clipped to the norm `penalty_clip` (100 in the published code; 0: no clipping).

    As in TAG's code there is one anchor, F is a mean over tasks and lambda has no factor of 1/2; the paper has a penalty
    of lambda/2 for each earlier task, with the weights of that task.

    Args:
        plan: The settings.
        stream: What the strategy needs to know of the stream.

    Attributes:
        importance: F, one tensor per trained parameter; empty before the first task ends.
        anchor: theta*, likewise.
        tasks: Number of tasks in the running mean.
    """

    plan: EWCSettings

    def __init__(self, plan: EWCSettings, stream: Stream) -> None:
        super().__init__(plan, stream)
        self.tasks = 0

    @property
    def weight(self) -> float:
        """lambda, the weight of the penalty."""
        return self.plan.ewc_lambda

    @torch.no_grad()
    def penalty_gradient(self, model: TaskModel) -> list[Tensor]:
        """The gradient of the penalty: 2 lambda F (theta - theta*), clipped.

        Returns:
            One tensor per trained parameter; an empty list before the first task ends.
        """
        gradient = super().penalty_gradient(model)
        if gradient and self.plan.penalty_clip:
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradient)))
            torch._foreach_mul_(gradient, (self.plan.penalty_clip / norm.clamp_min(1e-12)).clamp_max(1.0))
        return gradient

    def end_task(self, model: TaskModel, task: TaskTensors) -> None:
        """Keep the weights as theta*, and add the Fisher information of the task to the running mean.

        With `fisher: published` nothing changes after the last task of the stream.

        Args:
            model: The network.
            task: The training data of the task.
        """
        new = self._information(model, task)
        if new is None:
            return
        self.tasks += 1
        self.importance = self.importance or [torch.zeros_like(tensor) for tensor in new]
        share = published.share(self.tasks) if self.plan.fisher == "published" else 1 / self.tasks
        torch._foreach_lerp_(self.importance, new, share)
        self.anchor = weights(model)

    def _information(self, model: TaskModel, task: TaskTensors) -> list[Tensor] | None:
        """The Fisher information of a task, one tensor per trained parameter.

        None for the last task if `fisher` is `published`: that kind needs the outputs of the task that follows.
        """
        if self.plan.fisher == "exact":
            # Where tasks share the outputs, an image may be given any class of all tasks.
            every = sorted({output for row in self.stream.classes for output in row})
            return exact_fisher(model, task, every if model.mask is None else self.stream.classes[task.task])
        count = min(self.plan.fisher_batch or len(task), len(task))
        chosen = torch.from_numpy(self.stream.generator.choice(len(task), count, replace=False)).to(task.labels.device)
        batch = Batch(task.images[chosen], task.labels[chosen], task.task)
        if self.plan.fisher == "batch":
            return batch_fisher(model, batch)
        following = self.stream.classes[task.task + 1 :]
        return published.fisher(model, batch, task.task + 1, following[0]) if following else None

    def state_dict(self) -> dict[str, Any]:
        """The Fisher information, the anchor, the number of tasks and the state of the random generator."""
        return super().state_dict() | {"tasks": self.tasks, "generator": self.stream.generator.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        super().load_state_dict(state)
        self.tasks = state["tasks"]
        self.stream.generator.bit_generator.state = state["generator"]
