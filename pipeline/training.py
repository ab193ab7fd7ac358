"""The one loop over the tasks of a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pipeline.benchmarks.store import Tasks
from pipeline.config.plan import RegimePlan, RunPlan
from pipeline.errors import DivergenceError
from pipeline.evaluation import accuracy_row
from pipeline.feeding import Joint, Sequential
from pipeline.models import TaskModel, build_model, load_task, outputs_of_tasks
from pipeline.optimizers import TAG, build_optimizer
from pipeline.randomness import generator, torch_seed
from pipeline.strategies import Stream, build_strategy

#: Points of the training-loss curve a task.
CURVE = 20
#: Nats. A network that is sure of the wrong answer loses tens; above this the weights have blown up, though a rectifier
#: that died on the way may keep the loss from becoming infinite.
DIVERGED = 1e6


@dataclass
class Record:
    """accuracy, test_loss: (T + 1, T), row 0 the untrained network. train_loss: for each task the mean loss of (up to)
    CURVE equal stretches of its steps. alpha: of TAG, for each task t its alpha(t, tau) in such stretches, a list over tau
    in each (the last the task itself), as the mean over parameter tensors and steps; empty for other update rules."""

    accuracy: list[list[float]] = field(default_factory=list)
    test_loss: list[list[float]] = field(default_factory=list)
    train_loss: list[list[float]] = field(default_factory=list)
    alpha: list[list[list[float]]] = field(default_factory=list)


def learning_rate(regime: RegimePlan, lr: float, task: int) -> float:
    """max(lr * lr_decay^t, min_lr) with t = task + 1     (Stable SGD, section 5; t counts from 1, so the first task's
    rate is lr * lr_decay). Without decay it is lr. task: from 0."""
    if regime.min_lr is None:
        return lr
    return max(lr * regime.lr_decay ** (task + 1), min(lr, regime.min_lr))


def train(
    plan: RunPlan,
    tasks: Tasks,
    seed: int,
    device: torch.device,
    after_task: Callable[[int, TaskModel], None] = lambda task, model: None,
    weights: Path | None = None,
) -> Record:
    """Train one method on the whole stream.

    weights: the file of initial weights, where the plan's network starts from trained ones. after_task: called with the
    task's number (from 0) and the model once the task is learnt. Same plan, seed and kind of device: the same numbers,
    whatever ran before; the caller's random state is left as it was. Raises DivergenceError at the first loss that is NaN,
    infinite or above DIVERGED, UserError for a missing or damaged task file.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        return _train(plan, tasks, seed, device, after_task, weights)


def _train(
    plan: RunPlan,
    tasks: Tasks,
    seed: int,
    device: torch.device,
    after_task: Callable[[int, TaskModel], None],
    weights: Path | None,
) -> Record:
    outputs = outputs_of_tasks(tasks.classes, plan.model.outputs)
    torch.manual_seed(torch_seed(seed, "weights"))
    model = build_model(plan.model, tasks.image_shape, tasks.classes, plan.regime.dropout, weights).to(device)
    torch.manual_seed(torch_seed(seed, "dropout"))  # from here on the global generator serves dropout alone
    optimizer = build_optimizer(model.named_parameters(), **plan.optimizer.model_dump(exclude_none=True))
    stream = Stream(outputs, plan.training.batch_size, generator(seed, "memory"))
    strategy = build_strategy(plan.strategy, stream)
    feed = (Joint if strategy.joint else Sequential)(
        tasks, strategy, plan.training, outputs, generator(seed, "order"), device
    )
    tests = [load_task(tasks, task, "test", outputs, device) for task in range(len(tasks))]
    record = Record()

    def evaluate() -> None:
        accuracy, loss = accuracy_row(model, tests)
        record.accuracy.append(accuracy)
        record.test_loss.append(loss)

    evaluate()
    model.train()
    # A look at the loss makes a GPU wait: there only now and then, on a CPU at every step.
    watch = _Watch(plan.method, seed, every=50 if device.type == "cuda" else 1)
    title = f"train {plan.method}-{seed}"
    with tqdm(total=feed.steps(), unit="step", desc=title, disable=None, leave=False) as bar:
        for number in range(len(tasks)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(plan.regime, plan.optimizer.lr, number)
            if isinstance(optimizer, TAG):
                optimizer.begin_task()
            bar.set_postfix_str(f"task {number + 1}/{len(tasks)}")
            losses: list[Tensor] = []
            alphas: list[Tensor] = []
            for task, batches in feed.visits(number):
                strategy.begin_task(task)
                for batch in batches:
                    optimizer.zero_grad()
                    losses.append(strategy.backward(model, batch))
                    optimizer.step()
                    if isinstance(optimizer, TAG):
                        alphas.append(optimizer.alphas.nanmean(dim=0))
                    watch.look(number, losses)
                    bar.update()
                strategy.end_task(model, task)
            watch.look(number, losses, last=True)
            record.train_loss.append(_curve(losses))
            if alphas:
                record.alpha.append(_curve(alphas))
            after_task(number, model)
            evaluate()
    return record


class _Watch:
    """Stops a diverging run."""

    def __init__(self, method: str, seed: int, every: int) -> None:
        self.method, self.seed, self.every = method, seed, every

    def look(self, task: int, losses: list[Tensor], last: bool = False) -> None:
        if len(losses) % self.every and not last:
            return
        first = (len(losses) - 1) // self.every * self.every
        for step, loss in enumerate(losses[first:], start=first + 1):
            if not loss.item() < DIVERGED:  # a NaN is not smaller than anything
                raise DivergenceError(
                    f"{self.method}, seed {self.seed}: the loss is {loss.item()} at task {task + 1}, step {step}; "
                    "choose a smaller learning rate"
                )


def _curve(values: Sequence[Tensor]) -> Any:
    """Means over (up to) CURVE equal stretches of a sequence of tensors of one shape, as nested lists; [] of none."""
    if not values:
        return []
    whole = torch.stack(list(values)).double().cpu().numpy()
    return [part.mean(axis=0).tolist() for part in np.array_split(whole, min(CURVE, len(whole)))]
