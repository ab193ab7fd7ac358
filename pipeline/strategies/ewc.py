"""EWC: elastic weight consolidation (Kirkpatrick et al. 2017, arXiv 1612.00796)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipeline.config.plan import StrategyPlan
from pipeline.models import TaskModel, TaskTensors
from pipeline.strategies.batch import Batch, Stream, cross_entropy
from pipeline.strategies.fisher import batch_fisher, exact_fisher, published_fisher
from pipeline.strategies.naive import Naive


class EWC(Naive):
    """Adds the gradient of the penalty lambda sum_i F_i (theta_i - theta*_i)^2.

    theta*: the weights after the last task. F: the running mean over the tasks of the diagonal Fisher information,
    `fisher: batch` (the squared gradient of the mean loss of one batch of `fisher_batch` training examples) or `fisher:
    exact` (the textbook's: the mean over all training examples of the task). The penalty's gradient is clipped to the norm
    `penalty_clip` (published: 100; 0: not at all) before the loss's gradient is added.

    `fisher: published` is what TAG's code does with one batch: the squared gradient g^2 under the mask of the next task, see
    `published_fisher`, and F <- (F + t g^2) / (t + 1) after task t (from 1), which is no mean over the tasks: the last one
    has t / (t + 1) of the weight.
    """

    def __init__(self, plan: StrategyPlan, stream: Stream) -> None:
        super().__init__(plan, stream)
        self.fisher: list[Tensor] = []
        self.anchor: list[Tensor] = []
        self.tasks = 0

    def penalty(self, model: TaskModel) -> Tensor:
        """lambda sum_i F_i (theta_i - theta*_i)^2, a tensor without dimensions."""
        total = torch.zeros(())
        for parameter, fisher, anchor in zip(_trained(model), self.fisher, self.anchor, strict=False):
            total = total.to(parameter) + (fisher * (parameter - anchor) ** 2).sum()
        return (self.plan.ewc_lambda or 0.0) * total

    @torch.no_grad()
    def penalty_gradient(self, model: TaskModel) -> list[Tensor]:
        """2 lambda F (theta - theta*), clipped: a tensor for each trained parameter; empty before the first task ends."""
        if not self.fisher:
            return []
        gradient = list(torch._foreach_sub(_trained(model), self.anchor))
        torch._foreach_mul_(gradient, self.fisher)
        torch._foreach_mul_(gradient, 2 * (self.plan.ewc_lambda or 0.0))
        if self.plan.penalty_clip:
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradient)))
            torch._foreach_mul_(gradient, (self.plan.penalty_clip / norm.clamp_min(1e-12)).clamp_max(1.0))
        return gradient

    def backward(self, model: TaskModel, batch: Batch) -> Tensor:
        """The gradient of the batch's loss and of the penalty."""
        loss = cross_entropy(model, batch)
        torch.autograd.backward(loss)
        for parameter, pull in zip(_trained(model), self.penalty_gradient(model), strict=False):
            if parameter.grad is None:
                parameter.grad = pull
            else:
                parameter.grad.add_(pull)
        return loss.detach()

    def end_task(self, model: TaskModel, task: TaskTensors) -> None:
        """Anchor the weights, and take the task's Fisher information into the running mean."""
        if self.plan.fisher == "exact":
            new = exact_fisher(model, task, self.stream.classes[task.task])
        else:
            draw = self.stream.generator.choice(len(task), min(self.plan.fisher_batch or 200, len(task)), replace=False)
            chosen = torch.from_numpy(draw).to(task.labels.device)
            batch = Batch(task.images[chosen], task.labels[chosen], task.task)
            if self.plan.fisher == "published":
                following = task.task + 1
                if following == len(self.stream.classes):  # no task is left that could be held back
                    return
                new = published_fisher(model, batch, following, self.stream.classes[following])
            else:
                new = batch_fisher(model, batch)
        self.tasks += 1
        if not self.fisher:
            self.fisher = [torch.zeros_like(tensor) for tensor in new]
        share = self.tasks / (self.tasks + 1) if self.plan.fisher == "published" else 1 / self.tasks
        torch._foreach_lerp_(self.fisher, new, share)
        self.anchor = [parameter.detach().clone() for parameter in _trained(model)]

    def state_dict(self) -> dict[str, Any]:
        """Fisher information, anchor, and the random stream."""
        return {
            "fisher": self.fisher,
            "anchor": self.anchor,
            "tasks": self.tasks,
            "generator": self.stream.generator.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.fisher = [tensor.clone() for tensor in state["fisher"]]
        self.anchor = [tensor.clone() for tensor in state["anchor"]]
        self.tasks = state["tasks"]
        self.stream.generator.bit_generator.state = state["generator"]


def _trained(model: TaskModel) -> list[Tensor]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
