"""What a step costs with each strategy, relative to plain fine-tuning, on the reduced ResNet-18, one CPU thread.

    python -m bench.strategies [--rounds 20]

20 tasks of 5 classes, batch 10, 32x32 images, SGD. Every round times a whole step (forward, backward, update) of
every strategy, each right after a naive one, so that a slower moment of the machine slows both; each ratio is the median
over the rounds, with its quartiles beside it.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import numpy as np
import torch

from bench.tag import measure
from pipeline.config.strategies import AGEMSettings, ERSettings, EWCSettings, NaiveSettings, StrategySettings
from pipeline.models import TaskModel, TaskTensors
from pipeline.models.resnet import ReducedResNet18
from pipeline.strategies import Batch, Naive, Stream, build_strategy
from pipeline.strategies.agem import AGEM
from pipeline.strategies.er import ER

TASKS, CLASSES, BATCH, LR = 20, 5, 10, 1e-6
#: The task whose steps are timed, from 1: the first with a memory, and the last.
TIMED = (2, 20)
#: Images of each earlier task that the memories are offered.
IMAGES = 100
#: Five a class: with one, task 2 would have 5 images in memory, half a batch, and seem cheaper than task 20.
PLANS = {
    "naive": NaiveSettings(name="naive"),
    "ewc": EWCSettings(name="ewc", ewc_lambda=1.0, fisher="batch", fisher_batch=BATCH, penalty_clip=100.0),
    "er": ERSettings(name="er", memory_per_class=5),
    "agem": AGEMSettings(name="agem", memory_per_class=5),
}
GOALS = {"ewc": 1.12, "er": 2.05, "agem": 2.2}
OUTPUTS = [list(range(task * CLASSES, (task + 1) * CLASSES)) for task in range(TASKS)]


def random_task(task: int, images: int) -> TaskTensors:
    """Random images with the labels of `task`."""
    pixels = torch.randint(256, (images, 3, 32, 32), dtype=torch.uint8)
    return TaskTensors(task, pixels, task * CLASSES + torch.arange(images) % CLASSES)


def in_the_middle_of(task: int, model: TaskModel, plan: StrategySettings) -> Naive:
    """The strategy as it is in `task` (from 1), once it has been through all earlier ones."""
    strategy = build_strategy(plan, Stream(OUTPUTS, BATCH, np.random.default_rng(0)))
    for number in range(task - 1):
        earlier = random_task(number, IMAGES)
        strategy.begin_task(earlier)
        if isinstance(strategy, AGEM | ER):
            for images, labels in zip(
                torch.split(earlier.images, BATCH), torch.split(earlier.labels, BATCH), strict=True
            ):
                strategy.memory.add(Batch(images, labels, number))
        strategy.end_task(model, earlier)
    strategy.begin_task(random_task(task - 1, BATCH))
    return strategy


def steps_of(task: int) -> list[Callable[[], object]]:
    """For each strategy but naive two functions that do one step of `task` (from 1): naive's and its own."""
    model = TaskModel(ReducedResNet18(TASKS * CLASSES), OUTPUTS, "task")
    optimizer = torch.optim.SGD(model.parameters(), LR)
    present = random_task(task - 1, BATCH)
    batch = Batch(present.images, present.labels, present.task)

    def step_of(strategy: Naive) -> Callable[[], object]:
        def step() -> None:
            optimizer.zero_grad()
            strategy.backward(model, batch)
            optimizer.step()

        return step

    naive, *others = (step_of(in_the_middle_of(task, model, plan)) for plan in PLANS.values())
    return [step for other in others for step in (naive, other)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.strategies", description="the cost of a step with each strategy, relative to naive"
    )
    parser.add_argument("--rounds", type=int, default=20, help="steps of each strategy that the medians are taken of")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"reduced ResNet-18, {TASKS} tasks of {CLASSES} classes, batch {BATCH}, SGD, one thread")
    print(f"{'task':>4} {'strategy':>8} {'step ms':>8} {'/ naive':>8} {'quartiles':>13} {'goal: at most':>14}")
    medians: dict[str, list[float]] = {name: [] for name in GOALS}
    for task in TIMED:
        times = measure(steps_of(task), rounds)
        columns = list(zip(*times, strict=True))
        print(f"{task:>4} {'naive':>8} {statistics.median(sum(columns[::2], ())) * 1e3:>8.2f}")
        for (name, goal), naive, own in zip(GOALS.items(), columns[::2], columns[1::2], strict=True):
            ratios = [one / plain for one, plain in zip(own, naive, strict=True)]
            low, middle, high = statistics.quantiles(ratios, method="inclusive")
            medians[name].append(middle)
            milliseconds = statistics.median(own) * 1e3
            print(f"{task:>4} {name:>8} {milliseconds:>8.2f} {middle:>8.3f} {low:>5.2f} - {high:<5.2f} {goal:>14.2f}")
    growth = ", ".join(f"{name} {last - first:+.3f}" for name, (first, last) in medians.items())
    print(f"task {TIMED[1]} less task {TIMED[0]} (goal: the same): {growth}")


if __name__ == "__main__":
    main()
