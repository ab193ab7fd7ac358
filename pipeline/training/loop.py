"""The training loop over the tasks of a stream, which all methods share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from pipeline.config.plan import RunPlan
from pipeline.config.regimes import Regime
from pipeline.models import TaskModel
from pipeline.optimizers import begin_task, stable_lr
from pipeline.streams.reader import Tasks
from pipeline.support.scratch import Scratch
from pipeline.training.continual import Continual
from pipeline.training.cursor import Cursor
from pipeline.training.recorder import Measurements, Recorder
from pipeline.training.run import build_run, random_state_kept


def train(
    plan: RunPlan,
    tasks: Tasks,
    seed: int,
    device: torch.device,
    after_task: Callable[[int, TaskModel], None] = lambda task, model: None,
    weights: Path | None = None,
    scratch: Scratch | None = None,
    evaluated: Callable[[Recorder], None] = lambda recorder: None,
) -> Measurements:
    """Train one method on the whole stream.

    The same plan, seed and type of device give the same numbers, whatever ran before in this process. PyTorch's global
    random states of the CPU and of `device` are restored afterwards; those of other devices are not.

    Args:
        plan: What to train, and how.
        tasks: The stream.
        seed: The seed of everything random in the run.
        device: Where to train.
        after_task: Called after each task is learnt and before it is evaluated, with the number of the task (from 0)
            and the model.
        weights: The file of initial weights, if the network of the plan starts from pretrained ones.
        scratch: Where the run saves its state after each task and every few minutes. If it already holds a state, the
            run resumes from it and ends with the same numbers as an uninterrupted one. None to save nothing.
        evaluated: Called with all measurements so far when the run begins or resumes, and after each task is learnt and
            evaluated.

    Returns:
        Accuracies, losses and, for TAG, alphas of the run.

    Raises:
        DivergenceError: if the loss becomes NaN, infinite or absurdly large.
        UserError: if a task file is missing or damaged, or the network cannot take the images of the stream.
    """
    with random_state_kept(device):
        run = build_run(plan, tasks, seed, device, weights)
        model, optimizer, strategy = run.model, run.optimizer, run.strategy
        recorder = Recorder(plan.method, seed, device)
        continual = Continual(run, recorder)
        cursor = Cursor(run, recorder, scratch)  # resumes where a killed run stopped
        if not cursor.resumed:
            recorder.evaluated(*run.evaluate(learnt=0))
        evaluated(recorder)
        for task in cursor.tasks():
            set_learning_rate(optimizer, learning_rate(plan.regime, plan.optimizer.lr, task))
            if cursor.task_begins:
                begin_task(optimizer)
            for visited, batches in cursor.visits():  # only the task itself, except in multi-task learning
                if cursor.visit_begins:
                    strategy.begin_task(visited)
                for batch in batches:
                    optimizer.zero_grad()
                    loss = strategy.backward(model, batch)
                    optimizer.step()
                    strategy.after_step(model)
                    recorder.step(loss, optimizer)
                    continual.step(task)
                strategy.end_task(model, visited)
            continual.end_task(task)
            recorder.end_task()
            after_task(task, model)
            recorder.evaluated(*run.evaluate(learnt=task + 1))
            evaluated(recorder)
    return recorder.record


def learning_rate(regime: Regime, lr: float, task: int) -> float:
    """Compute the learning rate of a task under a regime: that of Stable SGD if the regime decays, else `lr`.

    Args:
        regime: The decay and its lower bound.
        lr: The learning rate before decay.
        task: The number of the task, from 0.
    """
    if regime.min_lr is None:
        return lr
    return stable_lr(lr, regime.lr_decay, task + 1, regime.min_lr)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = lr
