"""What a run measures while it trains, and the watch over its loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.support.errors import DivergenceError

#: Points of the training-loss curve per task.
CURVE = 20
#: Nats. A network that is sure of the wrong answer loses tens; above this the weights have blown up, though a rectifier
#: that died on the way may keep the loss from becoming infinite.
DIVERGED = 1e6


@dataclass
class Record:
    """accuracy, test_loss: (T + 1, T), row 0 the untrained network; NaN where a task was not evaluated. train_loss: for each
    task the mean loss of (up to) CURVE equal stretches of its steps. alpha: of TAG, for each task t its alpha(t, tau) in such
    stretches, a list over tau in each (the last the task itself), as the mean over parameter tensors and steps; empty for
    other update rules."""

    accuracy: list[list[float]] = field(default_factory=list)
    test_loss: list[list[float]] = field(default_factory=list)
    train_loss: list[list[float]] = field(default_factory=list)
    alpha: list[list[list[float]]] = field(default_factory=list)


class Recorder:
    """Fills the record of a run. losses, alphas: of the steps of the present task so far, on the device.

    method, seed: for the message of a run that diverges. every: steps between two looks at the loss, which make a GPU wait.
    """

    def __init__(self, method: str, seed: int, device: torch.device) -> None:
        self.method, self.seed, self.device = method, seed, device
        self.every = 50 if device.type == "cuda" else 1
        self.record = Record()
        self.losses: list[Tensor] = []
        self.alphas: list[Tensor] = []

    @property
    def tasks(self) -> int:
        """Tasks learnt so far: rows of the accuracy matrix after the untrained network's."""
        return len(self.record.accuracy)

    def evaluated(self, accuracy: list[float], loss: list[float]) -> None:
        """Take one row of the accuracy matrix, and of the losses beside it."""
        self.record.accuracy.append(accuracy)
        self.record.test_loss.append(loss)

    def step(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Take the loss of a step, and the alphas of an update rule that has some. Raises DivergenceError."""
        self.losses.append(loss)
        alphas: Tensor | None = getattr(optimizer, "alphas", None)
        if alphas is not None:
            self.alphas.append(alphas.nanmean(dim=0))
        if len(self.losses) % self.every == 0:
            self._look()

    def end_task(self) -> None:
        """Turn the steps of the task into curves. Raises DivergenceError."""
        self._look()
        self.record.train_loss.append(_curve(self.losses))
        if self.alphas:
            self.record.alpha.append(_curve(self.alphas))
        self.losses, self.alphas = [], []

    def _look(self) -> None:
        first = (len(self.losses) - 1) // self.every * self.every
        for step, loss in enumerate(self.losses[first:], start=first + 1):
            if not loss.item() < DIVERGED:  # a NaN is not smaller than anything
                raise DivergenceError(
                    f"{self.method}, seed {self.seed}: the loss is {loss.item()} at task {self.tasks}, step {step}; "
                    "choose a smaller learning rate"
                )

    def state_dict(self) -> dict[str, Any]:
        """Everything that must survive a stop."""
        return {
            "record": vars(self.record),
            "losses": torch.stack(self.losses) if self.losses else None,
            "alphas": torch.stack(self.alphas) if self.alphas else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.record = Record(**state["record"])
        self.losses, self.alphas = (
            [] if state[name] is None else list(state[name].to(self.device).unbind()) for name in ("losses", "alphas")
        )


def _curve(values: Sequence[Tensor]) -> Any:
    """Means over (up to) CURVE equal stretches of a sequence of tensors of one shape, as nested lists; [] of none."""
    if not values:
        return []
    whole = torch.stack(list(values)).double().cpu().numpy()
    return [part.mean(axis=0).tolist() for part in np.array_split(whole, min(CURVE, len(whole)))]
