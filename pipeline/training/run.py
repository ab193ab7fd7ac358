"""The parts of a run (network, update rule, strategy, order of examples) and how they are built from its plan."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.config.plan import RunPlan
from pipeline.config.strategies import AGEMSettings, GEMSettings, StrategySettings
from pipeline.models import TaskModel, TaskTensors, build_model_for, load_task, outputs_of_tasks
from pipeline.optimizers import build_optimizer
from pipeline.optimizers.build import UPDATE_RULES
from pipeline.strategies import STRATEGIES, Strategy, Stream, build_strategy
from pipeline.streams.reader import Tasks
from pipeline.support.errors import UserError
from pipeline.support.randomness import generator, torch_seed
from pipeline.training.evaluation import accuracy_row
from pipeline.training.feeding import Joint, Sequential

#: Largest side of images of which the strides of torchvision's ResNet-18 leave one pixel.
SMALL = 32


@dataclass(frozen=True)
class Run:
    """The parts of one run.

    Attributes:
        plan: What is trained, and how.
        seed: The seed of everything random in the run.
        device: Where the model and the data are placed.
        model: The network.
        optimizer: The update rule.
        strategy: What is added to the gradient or the data.
        feed: The training batches in their order.
        tests: For each task the images and labels that it is evaluated on.
    """

    plan: RunPlan
    seed: int
    device: torch.device
    model: TaskModel
    optimizer: torch.optim.Optimizer
    strategy: Strategy
    feed: Sequential
    tests: Sequence[TaskTensors]

    def evaluate(self, learnt: int) -> tuple[list[float], list[float]]:
        """Evaluate the model after `learnt` tasks; the random states of the CPU and of `device` are restored afterwards.

        Any dropout masks depend on the seed of the run and on `learnt` alone.

        Args:
            learnt: The number of tasks learnt so far.

        Returns:
            The accuracies, as fractions, and the mean losses in nats, one of each for every task; NaN for those that
            the plan does not evaluate.
        """
        only_next = learnt > 0 and self.plan.training.evaluate == "next"
        return self.evaluate_on(self.tests, learnt + 1 if only_next else None, moment=learnt)

    def evaluate_on(
        self, tests: Sequence[TaskTensors], count: int | None = None, *, moment: int
    ) -> tuple[list[float], list[float]]:
        """Evaluate the model on some tasks; the random states of the CPU and of `device` are restored afterwards.

        Args:
            tests: The evaluation data of the tasks.
            count: How many of them, from the first on, are evaluated; None for all. The others have NaN.
            moment: A number below 2^63 of this evaluation, on which any dropout masks depend beside the seed of the run.

        Returns:
            The accuracies, as fractions, and the mean losses in nats, one of each for every task.
        """
        with random_state_kept(self.device):
            torch.manual_seed(torch_seed(self.seed, "evaluation") ^ moment)
            return accuracy_row(self.model, tests, count, bool(self.plan.regime.dropout_at_test))


def build_run(plan: RunPlan, tasks: Tasks, seed: int, device: torch.device, weights: Path | None = None) -> Run:
    """Build a run as it is before its first step; each part draws from its own random stream of the run's seed.

    This seeds PyTorch's global random state, which from then on serves dropout alone.

    Args:
        plan: What to train, and how.
        tasks: The stream.
        seed: The seed of everything random in the run.
        device: Where to train.
        weights: The file of initial weights, if the network of the plan starts from pretrained ones.

    Raises:
        UserError: if a task file is missing or damaged, or the network cannot take the images of the stream.
    """
    outputs = outputs_of_tasks(tasks.classes, plan.model.outputs)
    _refuse_batches_of_one(plan, tasks)
    if plan.optimizer.name not in UPDATE_RULES:
        raise UserError(
            f"the update rule '{plan.optimizer.name}' has settings but no line in UPDATE_RULES of "
            "pipeline/optimizers/build.py; add it there"
        )
    torch.manual_seed(torch_seed(seed, "weights"))
    model = build_model_for(plan.model, tasks, plan.regime.dropout, weights).to(device)
    torch.manual_seed(torch_seed(seed, "dropout"))
    optimizer = build_optimizer(model.named_parameters(), **plan.optimizer.model_dump(exclude_none=True))
    strategy = build_strategy(plan.strategy, Stream(outputs, plan.training.batch_size, generator(seed, "memory")))
    order = Joint if strategy.joint else Sequential
    feed = order(tasks, strategy, plan.training, outputs, generator(seed, "order"), device)
    tests = [load_task(tasks, task, "test", outputs, device) for task in range(len(tasks))]
    for task in range(len(tasks)):  # a damaged file is found now, not hours later, when its task is reached
        tasks.split(task, "train")
    model.train()
    return Run(plan, seed, device, model, optimizer, strategy, feed, tests)


def _refuse_batches_of_one(plan: RunPlan, tasks: Tasks) -> None:
    """Raise UserError where batch normalisation would have a single value for each channel, and fail.

    torchvision's ResNet-18 leaves one pixel of images of up to `SMALL` pixels a side.
    """
    if plan.model.name != "resnet18" or max(tasks.image_shape[:2]) > SMALL:
        return
    why = f"which batch normalisation cannot train on where images have at most {SMALL} pixels a side"
    if plan.strategy.value_of("memory_batch") == 1 and not plan.strategy.value_of(
        "one_pass"
    ):  # else it joins the batch
        raise UserError(f"resnet18: a memory batch has one image, {why}; raise memory_batch, or choose larger images")
    if (alone := _recalled_alone(plan.strategy, [len(classes) for classes in tasks.classes])) is not None:
        raise UserError(
            f"resnet18: of task {alone + 1} the memory recalls one image alone, {why}; raise memory_per_class, or choose "
            "larger images"
        )
    batch, counts = plan.training.batch_size, [tasks.count(task, "train") for task in range(len(tasks))]
    if STRATEGIES[type(plan.strategy)].joint:
        counts = [sum(counts)]
    for task, count in enumerate(counts, start=1):
        if batch == 1 or count % batch == 1:
            whose = f"task {task} has" if len(counts) > 1 else "there is"
            raise UserError(
                f"resnet18: {whose} a batch of one image, {why}; choose another training.batch_size than {batch}, or larger "
                "images"
            )


def _recalled_alone(strategy: StrategySettings, classes: Sequence[int]) -> int | None:
    """Return the first task of which a pass through the network recalls a single image, from 0; None if there is none.

    GEM recalls each earlier task by itself. A ring that goes through the network apart from the batch holds, in the
    second task, what it kept of the first, and later at least one image more.

    Args:
        strategy: The settings of the strategy.
        classes: For each task, the number of its classes.
    """
    if isinstance(strategy, GEMSettings):
        recalled = classes[:-1]
    elif isinstance(strategy, AGEMSettings) or (
        strategy.value_of("memory") == "ring" and not strategy.value_of("one_pass")
    ):
        recalled = classes[:-1][:1]
    else:  # a reservoir has slots for all tasks
        return None
    return next(
        (task for task, count in enumerate(recalled) if count * strategy.value_of("memory_per_class") == 1), None
    )


def random_state(device: torch.device) -> list[Tensor]:
    """Return PyTorch's global random state: that of the CPU, and that of the device if it is a GPU, NVIDIA's or Apple's."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    elif device.type == "mps":
        states.append(torch.mps.get_rng_state())
    return states


def set_random_state(states: Sequence[Tensor], device: torch.device) -> None:
    """Restore what `random_state` returned for the same kind of device."""
    torch.set_rng_state(states[0])
    for state in states[1:]:
        if device.type == "cuda":
            torch.cuda.set_rng_state(state, device)
        else:
            torch.mps.set_rng_state(state)


@contextlib.contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Restore PyTorch's global random state, that of the CPU and of `device`, at the end of the block."""
    states = random_state(device)
    try:
        yield
    finally:
        set_random_state(states, device)
