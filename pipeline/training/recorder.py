"""What a run measures while it trains, and the detection of a loss that diverges."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.support.errors import DivergenceError

#: Maximum number of points per task in the curves of training loss and alpha.
CURVE = 20
#: Loss in nats from which on a run counts as diverged. A network that is confidently wrong has a loss of some tens;
#: beyond this limit the weights have blown up, although rectifiers that died on the way may keep the loss finite.
DIVERGED = 1e6


@dataclass
class Measurements:
    """The measurements of one run on T tasks.

    Attributes:
        accuracy: (T + 1, T) accuracies as fractions; row 0 is the untrained network, NaN a task that was not evaluated.
        test_loss: The mean losses in nats that go with `accuracy`, of the same shape.
        train_loss: For each task the mean loss of each of up to `CURVE` equal stretches of its steps.
        alpha: TAG's alpha(t, tau). For each task t and each such stretch a list over tau, the last entry being t
            itself; each value is the mean over parameter tensors and steps. Empty for other update rules.
        continual_steps: For each task, the steps of it that were done at each of its evaluations. Empty unless the plan
            has continual evaluation, and so is the next one.
        continual_accuracy: For each task t (from 1), each of these evaluations: t accuracies as fractions.
    """

    accuracy: list[list[float]] = field(default_factory=list)
    test_loss: list[list[float]] = field(default_factory=list)
    train_loss: list[list[float]] = field(default_factory=list)
    alpha: list[list[list[float]]] = field(default_factory=list)
    continual_steps: list[list[int]] = field(default_factory=list)
    continual_accuracy: list[list[list[float]]] = field(default_factory=list)

    def course(self) -> list[float]:
        """Return the average accuracy on the tasks learnt so far, a fraction, after each of them."""
        return [float(np.mean(row[:task])) for task, row in enumerate(self.accuracy) if task]


class Recorder:
    """Fills the record of a run.

    Args:
        method: The method, named in the error if the run diverges.
        seed: The seed, named there as well.
        device: The device of the run.

    Attributes:
        every: Steps between two checks of the loss: 50 on a GPU, which each check forces to wait, else 1.
        record: The record so far.
        losses: The loss of each step of the current task so far, on the device.
        alphas: TAG's alphas of each of these steps, as means over the parameter tensors, on the device.
        costs: Of each task that was learnt and evaluated, the mean loss of its steps and the seconds that it took. They
            are no part of the record: seconds differ from run to run.
    """

    def __init__(self, method: str, seed: int, device: torch.device) -> None:
        self.method, self.seed, self.device = method, seed, device
        self.every = 1 if device.type == "cpu" else 50
        self.record = Measurements()
        self.losses: list[Tensor] = []
        self.alphas: list[Tensor] = []
        self.costs: list[tuple[float, float]] = []
        self._mean_loss, self._begun = 0.0, time.perf_counter()

    @property
    def tasks(self) -> int:
        """The rows of the accuracy matrix so far, which while a task is trained is the number of that task, from 1."""
        return len(self.record.accuracy)

    def evaluated(self, accuracy: list[float], loss: list[float]) -> None:
        """Record one row of the accuracy matrix and the corresponding row of losses."""
        self.record.accuracy.append(accuracy)
        self.record.test_loss.append(loss)
        if self.tasks > 1:
            self.costs.append((self._mean_loss, time.perf_counter() - self._begun))
        self._begun = time.perf_counter()

    @property
    def evaluated_at(self) -> int | None:
        """The steps of the current task that were done at its latest evaluation; None if it has not been evaluated."""
        steps = self.record.continual_steps
        return steps[-1][-1] if len(steps) == self.tasks else None

    def evaluated_within(self, accuracy: list[float]) -> None:
        """Record an evaluation within the current task: the accuracies on the tasks so far, that one included."""
        steps, accuracies = self.record.continual_steps, self.record.continual_accuracy
        if len(steps) < self.tasks:
            steps.append([])
            accuracies.append([])
        steps[-1].append(len(self.losses))
        accuracies[-1].append(accuracy)

    def step(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Record the loss of a step, and the alphas if the update rule has any.

        Args:
            loss: The loss of the batch, detached.
            optimizer: The update rule, after its step.

        Raises:
            DivergenceError: if a check is due, and a loss since the last one is NaN, infinite or absurdly large.
        """
        self.losses.append(loss)
        alphas: Tensor | None = getattr(optimizer, "alphas", None)
        if alphas is not None:
            self.alphas.append(alphas.nanmean(dim=0))
        if len(self.losses) % self.every == 0:
            self._look()

    def end_task(self) -> None:
        """Turn the steps of the finished task into curves.

        Raises:
            DivergenceError: if a loss since the last check is NaN, infinite or absurdly large.
        """
        self._look()
        self.record.train_loss.append(_curve(self.losses))
        self._mean_loss = float(torch.stack(self.losses).cpu().double().mean()) if self.losses else float("nan")
        if self.alphas:
            self.record.alpha.append(_curve(self.alphas))
        self.losses, self.alphas = [], []

    def _look(self) -> None:
        """Raise DivergenceError if a loss since the last check is not below `DIVERGED`."""
        first = (len(self.losses) - 1) // self.every * self.every
        unseen = self.losses[first:]
        losses = torch.stack(unseen).tolist() if len(unseen) > 1 else [loss.item() for loss in unseen]  # one transfer
        for step, loss in enumerate(losses, start=first + 1):
            if not loss < DIVERGED:  # written so that NaN, which compares false, is caught too
                raise DivergenceError(
                    f"{self.method}, seed {self.seed}: the loss is {loss} at task {self.tasks}, step {step}; "
                    "choose a smaller learning rate"
                )

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs."""
        return {
            "record": vars(self.record),
            "losses": torch.stack(self.losses) if self.losses else None,
            "alphas": torch.stack(self.alphas) if self.alphas else None,
            "costs": self.costs,
            "seconds": time.perf_counter() - self._begun,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.record = Measurements(**state["record"])
        self.losses, self.alphas = (
            [] if state[name] is None else list(state[name].to(self.device).unbind()) for name in ("losses", "alphas")
        )
        self.costs, self._begun = list(state["costs"]), time.perf_counter() - state["seconds"]


def _curve(values: Sequence[Tensor]) -> Any:
    """Means over up to `CURVE` equal stretches of a sequence of equally shaped tensors, as nested lists."""
    if not values:
        return []
    whole = torch.stack(list(values)).cpu().double().numpy()  # Apple's GPUs have no doubles
    return [part.mean(axis=0).tolist() for part in np.array_split(whole, min(CURVE, len(whole)))]
