"""The base class of strategies that pull each weight back to where earlier tasks left it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from pipeline.config.strategies import StrategySettings
from pipeline.models import TaskModel
from pipeline.strategies.batch import Batch, Stream, cross_entropy, trained
from pipeline.strategies.strategy import Strategy


class Penalised(Strategy):
    """The gradient of the loss, plus that of a quadratic penalty on moving away from earlier weights.

        penalty = w sum_i I_i (theta_i - theta*_i)^2

    theta* are the weights after the task learnt last, w is `weight`, and I the importance that a subclass computes. Before
    the first task ends there is no penalty.

    Args:
        plan: The settings of the strategy.
        stream: What the strategy needs to know of the stream.

    Attributes:
        importance: I, one tensor per trained parameter; empty before the first task ends.
        anchor: theta*, likewise.
    """

    def __init__(self, plan: StrategySettings, stream: Stream) -> None:
        super().__init__(plan, stream)
        self.importance: list[Tensor] = []
        self.anchor: list[Tensor] = []

    @property
    @abstractmethod
    def weight(self) -> float:
        """w, the weight of the penalty."""

    def backward(self, model: TaskModel, batch: Batch) -> Tensor:
        """Leave the gradient of the batch's loss and of the penalty in `.grad`.

        Args:
            model: The network.
            batch: The examples of this step.

        Returns:
            The loss of the batch, without the penalty, detached.
        """
        loss = cross_entropy(model, batch)
        torch.autograd.backward(loss)
        self.observe(model)
        pulls = self.penalty_gradient(model)
        # The sums are written over the pulls, not over the gradients, which `observe` may keep.
        both = [
            (pull, parameter.grad)
            for pull, parameter in zip(pulls, trained(model), strict=False)
            if parameter.grad is not None
        ]
        if both:
            torch._foreach_add_(*map(list, zip(*both, strict=True)))
        for parameter, pull in zip(trained(model), pulls, strict=False):
            parameter.grad = pull
        return loss.detach()

    def observe(self, model: TaskModel) -> None:
        """Take what the importance needs from a step, before the penalty is added. Does nothing here.

        Args:
            model: The network, with the gradient of the batch's loss alone; it may be kept, but not changed.
        """

    @torch.no_grad()
    def penalty_gradient(self, model: TaskModel) -> list[Tensor]:
        """The gradient of the penalty: 2 w I (theta - theta*).

        Returns:
            One tensor per trained parameter; an empty list before the first task ends.
        """
        if not self.importance:
            return []
        gradient = list(torch._foreach_sub(trained(model), self.anchor))
        torch._foreach_mul_(gradient, self.importance)
        torch._foreach_mul_(gradient, 2 * self.weight)
        return gradient

    def state_dict(self) -> dict[str, Any]:
        """The importance and the anchor."""
        return {"importance": self.importance, "anchor": self.anchor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.importance = copies(state["importance"])
        self.anchor = copies(state["anchor"])


def weights(model: TaskModel) -> list[Tensor]:
    """A copy of the trained parameters, one tensor each."""
    return copies(trained(model))


def gradients(model: TaskModel) -> list[Tensor]:
    """The gradients of the trained parameters, not copied; zeros for a parameter that has none."""
    return [
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.detach()
        for parameter in trained(model)
    ]


def copies(tensors: list[Tensor]) -> list[Tensor]:
    """A copy of each tensor, without a graph."""
    return [tensor.detach().clone() for tensor in tensors]
