"""What a step costs with each strategy, relative to forward and backward alone, on the reduced ResNet-18, one CPU thread.

    python -m bench.strategies [--rounds 20] [--methods er gem ...]

    (forward + backward + what the strategy adds + update) / (forward + backward)

20 tasks of 5 classes, batch 10, 32x32 images, SGD, five examples per class in memory. Every round times a whole step of
every strategy, each right after a bare forward and backward of the same batch, so that a slower moment of the machine
slows both; each ratio is the median over the rounds, with its quartiles beside it. The time at the end of a task is not
part of it.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import numpy as np
import torch

from bench.tag import measure
from pipeline.config.strategies import (
    AGEMSettings,
    DERppSettings,
    ERSettings,
    EWCSettings,
    GEMSettings,
    LwFSettings,
    MASSettings,
    NaiveSettings,
    OnlineEWCSettings,
    SISettings,
    StrategySettings,
)
from pipeline.models import TaskModel, TaskTensors
from pipeline.models.resnet import ReducedResNet18
from pipeline.strategies import Batch, Strategy, Stream, build_strategy
from pipeline.strategies.batch import cross_entropy
from pipeline.strategies.derpp import DERpp
from pipeline.strategies.remembering import Remembering

TASKS, CLASSES, BATCH, LR = 20, 5, 10, 1e-6
#: The task whose steps are timed, from 1: the first with a memory, and the last.
TIMED = (2, 20)
#: Images of each earlier task: enough to fill the memory of its classes.
IMAGES = 30
#: Five a class: with one, task 2 would have 5 images in memory, half a batch, and seem cheaper than task 20.
PLANS: dict[str, StrategySettings] = {
    "naive": NaiveSettings(name="naive"),
    "ewc": EWCSettings(name="ewc", ewc_lambda=1.0, fisher="batch", fisher_batch=BATCH, penalty_clip=100.0),
    "online-ewc": OnlineEWCSettings(name="online-ewc", ewc_lambda=1.0),
    "si": SISettings(name="si"),
    "mas": MASSettings(name="mas", mas_examples=BATCH),
    "er": ERSettings(name="er", memory_per_class=5),
    "er-ring": ERSettings(name="er", memory_per_class=5, memory="ring", one_pass=True),
    "derpp": DERppSettings(name="derpp", memory_per_class=5),
    "lwf": LwFSettings(name="lwf"),
    "agem": AGEMSettings(name="agem", memory_per_class=5),
    "agem-256": AGEMSettings(name="agem", memory_per_class=5, memory_batch=256),
    "gem": GEMSettings(name="gem", memory_per_class=5),
}
#: The most that a step may cost.
GOALS = {"ewc": 1.12, "er": 2.05, "agem": 2.2}
#: Strategies whose step grows with the number of examples or of tasks in memory, by what they are.
GROWING = ("agem-256", "gem")
OUTPUTS = [list(range(task * CLASSES, (task + 1) * CLASSES)) for task in range(TASKS)]


def random_task(task: int, images: int) -> TaskTensors:
    """Random images with the labels of `task`."""
    pixels = torch.randint(256, (images, 3, 32, 32), dtype=torch.uint8)
    return TaskTensors(task, pixels, task * CLASSES + torch.arange(images) % CLASSES)


def in_the_middle_of(task: int, model: TaskModel, plan: StrategySettings) -> Strategy:
    """The strategy as it is in `task` (from 1), once it has been through all earlier ones."""
    strategy = build_strategy(plan, Stream(OUTPUTS, BATCH, np.random.default_rng(0)))
    for number in range(task - 1):
        earlier = random_task(number, IMAGES)
        strategy.begin_task(earlier)
        parts = zip(earlier.images.split(BATCH), earlier.labels.split(BATCH), strict=True)  # type: ignore[no-untyped-call]
        batches = [Batch(*part, number) for part in parts]
        for batch in batches:
            # Filling a memory takes no gradients, but DER++ keeps logits, and the penalties take gradients on the way.
            if isinstance(strategy, Remembering) and not isinstance(strategy, DERpp):
                strategy.memory.add(batch)
            else:
                model.zero_grad()
                strategy.backward(model, batch)
                strategy.after_step(model)
        strategy.end_task(model, earlier)
    strategy.begin_task(random_task(task - 1, BATCH))
    return strategy


def steps_of(task: int, plans: dict[str, StrategySettings]) -> list[Callable[[], object]]:
    """For each strategy two functions: a bare forward and backward, and one step of `task` (from 1)."""
    model = TaskModel(ReducedResNet18(TASKS * CLASSES), OUTPUTS, "task")
    optimizer = torch.optim.SGD(model.parameters(), LR)
    present = random_task(task - 1, BATCH)
    batch = Batch(present.images, present.labels, present.task)

    def bare() -> None:
        model.zero_grad()
        torch.autograd.backward(cross_entropy(model, batch))

    def step_of(strategy: Strategy) -> Callable[[], object]:
        def step() -> None:
            optimizer.zero_grad()
            strategy.backward(model, batch)
            optimizer.step()
            strategy.after_step(model)

        return step

    steps = [step_of(in_the_middle_of(task, model, plan)) for plan in plans.values()]
    return [function for step in steps for function in (bare, step)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.strategies",
        description="the cost of a step with each strategy, over forward and backward",
    )
    parser.add_argument("--rounds", type=int, default=20, help="steps of each strategy that the medians are taken of")
    parser.add_argument("--methods", nargs="+", choices=PLANS, default=list(PLANS), help="some of the strategies")
    arguments = parser.parse_args()
    plans = {name: PLANS[name] for name in arguments.methods}
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"reduced ResNet-18, {TASKS} tasks of {CLASSES} classes, batch {BATCH}, SGD, one thread")
    print(f"{'task':>4} {'strategy':>10} {'step ms':>8} {'/ fwd+bwd':>9} {'quartiles':>13} {'goal: at most':>14}")
    medians: dict[str, list[float]] = {name: [] for name in plans}
    for task in TIMED:
        columns = list(zip(*measure(steps_of(task, plans), arguments.rounds), strict=True))
        print(f"{task:>4} {'fwd+bwd':>10} {statistics.median(sum(columns[::2], ())) * 1e3:>8.2f}")
        for name, bare, own in zip(plans, columns[::2], columns[1::2], strict=True):
            ratios = [one / plain for one, plain in zip(own, bare, strict=True)]
            low, _, high = statistics.quantiles(ratios, method="inclusive") if len(ratios) > 1 else ratios * 3
            medians[name].append(statistics.median(ratios))
            milliseconds = statistics.median(own) * 1e3
            cells = [f"{task:>4} {name:>10} {milliseconds:>8.2f} {medians[name][-1]:>9.3f} {low:>5.2f} - {high:<5.2f}"]
            cells += [f"{GOALS[name]:>14.2f}"] if name in GOALS else []
            print(*cells)
    growth = ", ".join(f"{name} {last - first:+.3f}" for name, (first, last) in medians.items() if name not in GROWING)
    print(f"task {TIMED[1]} less task {TIMED[0]} (goal: the same): {growth}")


if __name__ == "__main__":
    main()
