"""What a run is made of: network, update rule, strategy, and the examples in their order."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.config.plan import RunPlan
from pipeline.models import TaskModel, TaskTensors, build_model, load_task, outputs_of_tasks
from pipeline.optimizers import build_optimizer
from pipeline.strategies import Naive, Stream, build_strategy
from pipeline.streams.reader import Tasks
from pipeline.support.randomness import generator, torch_seed
from pipeline.training.evaluation import accuracy_row
from pipeline.training.feeding import Joint, Sequential


@dataclass(frozen=True)
class Run:
    """The parts of one run. tests: the images that each task is evaluated on."""

    plan: RunPlan
    seed: int
    device: torch.device
    model: TaskModel
    optimizer: torch.optim.Optimizer
    strategy: Naive
    feed: Sequential
    tests: Sequence[TaskTensors]

    def evaluate(self, learnt: int) -> tuple[list[float], list[float]]:
        """Accuracy (a fraction) and mean loss (nats) on every task after `learnt` tasks; NaN where none is planned."""
        only_next = learnt > 0 and self.plan.training.evaluate == "next"
        with random_state_kept(self.device):
            torch.manual_seed(torch_seed(self.seed, "evaluation") ^ learnt)
            dropout = bool(self.plan.regime.dropout_at_test)
            return accuracy_row(self.model, self.tests, learnt + 1 if only_next else None, dropout)


def build_run(plan: RunPlan, tasks: Tasks, seed: int, device: torch.device, weights: Path | None = None) -> Run:
    """Everything as it is before the first step; each part draws from its own random stream of the run's seed.

    From here on PyTorch's global random state serves dropout alone. Raises UserError for a missing or damaged task file, or
    images that the network cannot take.
    """
    outputs = outputs_of_tasks(tasks.classes, plan.model.outputs)
    torch.manual_seed(torch_seed(seed, "weights"))
    model = build_model(plan.model, tasks.image_shape, tasks.classes, plan.regime.dropout, weights).to(device)
    torch.manual_seed(torch_seed(seed, "dropout"))
    optimizer = build_optimizer(model.named_parameters(), **plan.optimizer.model_dump(exclude_none=True))
    strategy = build_strategy(plan.strategy, Stream(outputs, plan.training.batch_size, generator(seed, "memory")))
    order = Joint if strategy.joint else Sequential
    feed = order(tasks, strategy, plan.training, outputs, generator(seed, "order"), device)
    tests = [load_task(tasks, task, "test", outputs, device) for task in range(len(tasks))]
    model.train()
    return Run(plan, seed, device, model, optimizer, strategy, feed, tests)


def random_state_kept(device: torch.device) -> AbstractContextManager[None]:
    """A block that leaves PyTorch's global random state as it was."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
