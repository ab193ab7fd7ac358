"""The one loop over the tasks of a stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from pipeline.config.plan import RunPlan
from pipeline.config.regimes import Regime
from pipeline.models import TaskModel
from pipeline.optimizers import begin_task
from pipeline.streams.reader import Tasks
from pipeline.support.scratch import Scratch
from pipeline.training.cursor import Cursor
from pipeline.training.recorder import Record, Recorder
from pipeline.training.run import build_run, random_state_kept


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

    Same plan, seed and kind of device: the same numbers, whatever ran before. The caller's random state is left as it was.

    Args:
        plan: what to train, and how.
        tasks: the stream.
        seed: of everything random in the run.
        device: where to train.
        after_task: called with the number of each task (from 0) and the model once the task is learnt.
        weights: the file of initial weights, where the plan's network starts from trained ones.
        scratch: where the run keeps its state after each task and every few minutes. Where it holds one, the run goes on
            from it, and ends with the same numbers.

    Raises:
        DivergenceError: at the first loss that is NaN, infinite or absurdly large.
        UserError: for a missing or damaged task file.
    """
    with random_state_kept(device):
        run = build_run(plan, tasks, seed, device, weights)
        model, optimizer, strategy = run.model, run.optimizer, run.strategy
        recorder = Recorder(plan.method, seed, device)
        cursor = Cursor(run, recorder, scratch)  # goes on where a killed run was
        if not cursor.resumed:
            recorder.evaluated(*run.evaluate(learnt=0))
        for task in cursor.tasks():
            set_learning_rate(optimizer, learning_rate(plan.regime, plan.optimizer.lr, task))
            if cursor.task_begins:
                begin_task(optimizer)
            for visited, batches in cursor.visits():  # the task itself, but for multi-task learning
                if cursor.visit_begins:
                    strategy.begin_task(visited)
                for batch in batches:
                    optimizer.zero_grad()
                    loss = strategy.backward(model, batch)
                    optimizer.step()
                    recorder.step(loss, optimizer)
                strategy.end_task(model, visited)
            recorder.end_task()
            after_task(task, model)
            recorder.evaluated(*run.evaluate(learnt=task + 1))
    return recorder.record


def learning_rate(regime: Regime, lr: float, task: int) -> float:
    """The learning rate of a task: max(lr * lr_decay^t, min_lr) with t = task + 1     (Stable SGD, section 5).

    t counts from 1, so the first task's rate is lr * lr_decay. Without decay it is lr. task: from 0.
    """
    if regime.min_lr is None:
        return lr
    return max(lr * regime.lr_decay ** (task + 1), min(lr, regime.min_lr))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set it for all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = lr
