"""MAS: memory aware synapses (Aljundi et al. 2018, arXiv 1711.09601)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipeline.config.strategies import MASSettings
from pipeline.models import TaskModel, TaskTensors, evaluating
from pipeline.strategies.penalty import Penalised, weights
from pipeline.strategies.per_example import sums_of_absolute_gradients

#: Examples whose gradients A-GEM's authors add up before they take the absolute value.
PUBLISHED_BATCH = 10


class MAS(Penalised):
    """The gradient of the loss, plus that of a penalty on moving weights to which the outputs of earlier tasks react.

        penalty = lambda sum_i Omega_i (theta_i - theta*_i)^2
        Omega_i = sum over tasks of  mean_x | d ||z(x)||^2 / d theta_i |     z the task's own logits

    The mean is over the training examples x of a task, or over `mas_examples` of them, after its last step; labels are not
    used. `published: true` computes what the code of A-GEM's authors computes, which differs in two ways. Only the task
    learnt last counts: Omega is set to zero before that of a task is taken. And the absolute value is that of the gradient
    of ten examples together, whose signs cancel in part (`sensitivity`'s `together`), so that Omega is smaller. Those ten
    are of mixed classes, so the examples, which a task holds class by class, are shuffled first.

    Args:
        plan: The settings.
        stream: What the strategy needs to know of the stream.
    """

    plan: MASSettings

    @property
    def weight(self) -> float:
        """lambda, the weight of the penalty."""
        return self.plan.mas_lambda

    def end_task(self, model: TaskModel, task: TaskTensors) -> None:
        """Add the sensitivity of the task's outputs to the importance, and keep the weights as theta*.

        Args:
            model: The network.
            task: The training data of the task.
        """
        images, count = task.images, min(self.plan.mas_examples or len(task), len(task))
        if count < len(task) or self.plan.published:
            chosen = self.stream.generator.choice(len(task), count, replace=False)
            images = images[torch.from_numpy(chosen).to(images.device)]
        together = PUBLISHED_BATCH if self.plan.published else 1
        new = sensitivity(model, images, task.task, self.stream.classes[task.task], together)
        if self.importance and not self.plan.published:
            torch._foreach_add_(new, self.importance)
        self.importance, self.anchor = new, weights(model)

    def state_dict(self) -> dict[str, Any]:
        """The importance, the anchor and the state of the random generator."""
        return super().state_dict() | {"generator": self.stream.generator.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        super().load_state_dict(state)
        self.stream.generator.bit_generator.state = state["generator"]


def sensitivity(model: TaskModel, images: Tensor, task: int, outputs: list[int], together: int = 1) -> list[Tensor]:
    """How much the squared norm of a task's logits reacts to each parameter.

        1/n sum over groups of  | d sum_{x in the group} sum_{o in outputs} z_o(x)^2 / d theta_i |

    Args:
        model: The network; it is put in eval mode for the computation.
        images: The n examples x.
        task: The number of their task.
        outputs: The indices of the network's outputs that stand for its classes.
        together: Examples in a group, which follow each other in `images`. One gives MAS's Omega.

    Returns:
        One tensor per trained parameter, zeros for a parameter that these outputs do not use.
    """

    def squared_norms(part: Tensor) -> Tensor:
        logits: Tensor = model(part, task)
        return logits[:, outputs].square().sum(dim=1)

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with evaluating(model):
        total = sums_of_absolute_gradients(model, parameters, squared_norms, images, together)
    torch._foreach_div_(total, float(len(images)))
    return total
