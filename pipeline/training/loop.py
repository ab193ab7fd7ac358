"""The one loop over the tasks of a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pipeline.config.plan import RegimePlan, RunPlan
from pipeline.models import TaskModel, build_model, load_task, outputs_of_tasks
from pipeline.optimizers import TAG, build_optimizer
from pipeline.strategies import Naive, Stream, build_strategy
from pipeline.streams.reader import Tasks
from pipeline.support.errors import DivergenceError
from pipeline.support.randomness import generator, torch_seed
from pipeline.support.scratch import Scratch
from pipeline.training.evaluation import accuracy_row
from pipeline.training.feeding import Joint, Sequential

#: Points of the training-loss curve a task.
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
    scratch: Scratch | None = None,
) -> Record:
    """Train one method on the whole stream.

    weights: the file of initial weights, where the plan's network starts from trained ones. after_task: called with the
    task's number (from 0) and the model once the task is learnt. scratch: where the run keeps its state after each task and
    every few minutes; where it holds one, the run goes on from it and ends with the same numbers. Same plan, seed and kind
    of device: the same numbers, whatever ran before; the caller's random state is left as it was. Raises DivergenceError at
    the first loss that is NaN, infinite or above DIVERGED, UserError for a missing or damaged task file.
    """
    with _random_state(device):
        return _train(plan, tasks, seed, device, after_task, weights, scratch)


def _train(
    plan: RunPlan,
    tasks: Tasks,
    seed: int,
    device: torch.device,
    after_task: Callable[[int, TaskModel], None],
    weights: Path | None,
    scratch: Scratch | None,
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
    run = _Run(model, optimizer, strategy, device)

    def evaluate() -> None:
        learnt = len(run.record.accuracy)
        count = learnt + 1 if learnt and plan.training.evaluate == "next" else None
        with _random_state(device):
            torch.manual_seed(torch_seed(seed, "evaluation") ^ learnt)
            accuracy, loss = accuracy_row(model, tests, count, dropout=bool(plan.regime.dropout_at_test))
        run.record.accuracy.append(accuracy)
        run.record.test_loss.append(loss)

    kept = scratch.load() if scratch else None
    if kept is None:
        evaluate()
    else:
        run.load_state_dict(kept)
    model.train()
    # A look at the loss makes a GPU wait: there only now and then, on a CPU at every step.
    watch = _Watch(plan.method, seed, every=50 if device.type == "cuda" else 1)
    title = f"train {plan.method}-{seed}"
    with tqdm(total=feed.steps(), initial=run.steps, unit="step", desc=title, disable=None, leave=False) as bar:
        for number in range(run.part, len(tasks)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(plan.regime, plan.optimizer.lr, number)
            begun = run.visit > 0 or run.batch > 0
            if isinstance(optimizer, TAG) and not begun:
                optimizer.begin_task()
            bar.set_postfix_str(f"task {number + 1}/{len(tasks)}")
            if run.position is not None:
                feed.go_to(run.position)
            for visit, (task, batches) in enumerate(feed.visits(number)):
                if visit < run.visit:
                    continue
                position = feed.position()
                if run.batch == 0:
                    strategy.begin_task(task)
                for batch in islice(batches, run.batch, None):
                    optimizer.zero_grad()
                    run.losses.append(strategy.backward(model, batch))
                    optimizer.step()
                    if isinstance(optimizer, TAG):
                        run.alphas.append(optimizer.alphas.nanmean(dim=0))
                    watch.look(number, run.losses)
                    bar.update()
                    run.batch, run.steps = run.batch + 1, run.steps + 1
                    if scratch and scratch.due():
                        scratch.save(f"task {number + 1}, step {len(run.losses)}", run.state_dict(position))
                strategy.end_task(model, task)
                run.visit, run.batch = visit + 1, 0
            watch.look(number, run.losses, last=True)
            run.record.train_loss.append(_curve(run.losses))
            if run.alphas:
                run.record.alpha.append(_curve(run.alphas))
            after_task(number, model)
            evaluate()
            run.part, run.visit, run.losses, run.alphas, run.position = number + 1, 0, [], [], None
            if scratch and run.part < len(tasks):
                scratch.save(f"task {number + 2}", run.state_dict(feed.position()))
    return run.record


def _random_state(device: torch.device) -> AbstractContextManager[None]:
    """Leaves PyTorch's global random state as it was."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


class _Run:
    """Everything that a run is between two steps.

    part, visit, batch: where it is (the next batch of the visit of the part). steps: done so far. position: of the order of
    examples before the visit; None where it is as it should be. losses, alphas: of the part's steps so far.
    """

    def __init__(
        self, model: TaskModel, optimizer: torch.optim.Optimizer, strategy: Naive, device: torch.device
    ) -> None:
        self.model, self.optimizer, self.strategy, self.device = model, optimizer, strategy, device
        self.record = Record()
        self.part = self.visit = self.batch = self.steps = 0
        self.position: dict[str, Any] | None = None
        self.losses: list[Tensor] = []
        self.alphas: list[Tensor] = []

    def state_dict(self, position: dict[str, Any]) -> dict[str, Any]:
        """Tensors, numbers and words in plain containers. position: of the order of examples before the visit."""
        return {
            "at": (self.part, self.visit, self.batch, self.steps),
            "position": position,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "strategy": self.strategy.state_dict(),
            "dropout": torch.get_rng_state(),
            "dropout_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "record": vars(self.record),
            "losses": torch.stack(self.losses) if self.losses else None,
            "alphas": torch.stack(self.alphas) if self.alphas else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`, bit for bit."""
        self.part, self.visit, self.batch, self.steps = state["at"]
        self.position = state["position"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.strategy.load_state_dict(_on(self.device, state["strategy"]))
        torch.set_rng_state(state["dropout"])
        if state["dropout_cuda"] is not None:
            torch.cuda.set_rng_state(state["dropout_cuda"], self.device)
        self.record = Record(**state["record"])
        self.losses, self.alphas = (
            [] if state[name] is None else list(state[name].to(self.device).unbind()) for name in ("losses", "alphas")
        )


def _on(device: torch.device, state: Any) -> Any:
    """The tensors of nested containers on a device."""
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {key: _on(device, value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_on(device, value) for value in state)
    return state


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
