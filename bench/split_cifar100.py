"""A whole run of TAG-RMSProp on Split CIFAR-100, with its published settings: how long, and where the time goes.

    python -m bench.split_cifar100 [--jobs 2] [--method tag] [--tasks 20]

The stream has the size of the real one (tasks of 2,500 training and 500 test images of 32x32) and random images, so that
nothing is downloaded; it is trained by the same function as in the pipeline, one thread per run, `--jobs` runs side by side.
After each task, off the clock, a copy of the network is timed: bare forward and backward passes, which the task's own steps
are set against, and evaluation beside plain eager inference (the default layout, a test set in one pass).
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config import Configuration, RunPlan, read_configuration, resolve_data, resolve_run
from pipeline.config.sections import Compute
from pipeline.models import TaskModel, load_task, outputs_of_tasks
from pipeline.optimizers import build_optimizer
from pipeline.strategies import build_strategy
from pipeline.streams.reader import Tasks
from pipeline.streams.writer import write_tasks
from pipeline.support.compute import prepare
from pipeline.training.evaluation import accuracy_row, evaluate
from pipeline.training.loop import train

BENCHMARK = "split-cifar100"
#: Classes of a task, and images of each class, as in Split CIFAR-100.
CLASSES = 5
IMAGES = {"train": 500, "test": 100}
#: Bare passes after each task, and batches they take.
PASSES = 30
#: What the same run takes with the published code on such a machine, two side by side.
PUBLISHED = 620


@dataclass
class Clock:
    """Seconds of some calls. outside: of measurements that are not the run's."""

    seconds: dict[str, float] = field(default_factory=dict)
    outside: float = 0.0

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, whose seconds count for `name`."""

        def call(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

        return call


def configured(method: str, tasks: int) -> Configuration:
    """The project's configuration on this benchmark."""
    base = read_configuration()
    preset = base.benchmarks[BENCHMARK]
    stream = preset.stream.model_copy(update={"tasks": tasks, "classes": None})
    params = base.params.model_copy(update={"benchmark": BENCHMARK, "methods": [method]})
    plain = base.params.optimizer.model_copy(update={"name": "sgd"})
    benchmarks = {BENCHMARK: preset.model_copy(update={"stream": stream})}
    return Configuration(params.model_copy(update={"optimizer": plain}), benchmarks, base.methods)


def made_up(folder: Path, configuration: Configuration, tasks: int) -> None:
    """A stream of random images."""
    generator, classes = np.random.default_rng(0), tasks * CLASSES
    raw = {
        split: (
            generator.integers(256, size=(count * classes, 32, 32, 3), dtype=np.uint8),
            np.arange(count * classes) % classes,
        )
        for split, count in IMAGES.items()
    }
    folder.mkdir()
    write_tasks(folder, resolve_data(configuration), [raw])


class Probe:
    """Measures beside a run, after each of its tasks, and takes the seconds of that off the run's."""

    def __init__(self, plan: RunPlan, tasks: Tasks, clock: Clock) -> None:
        self.tasks, self.clock, self.size = tasks, clock, plan.training.batch_size
        self.outputs = outputs_of_tasks(tasks.classes, plan.model.outputs)
        self.steps: list[float] = []
        self.bare: list[float] = []
        self.ours: list[float] = []
        self.plain: list[float] = []
        self.start, self.evaluated = time.perf_counter(), 0.0

    def after_task(self, task: int, model: TaskModel) -> None:
        """The mean step of the task; then, on a copy of the network, the median bare pass, and both evaluations."""
        begun = time.perf_counter()
        device = torch.device("cpu")
        train, test = (load_task(self.tasks, task, split, self.outputs, device) for split in ("train", "test"))
        training_only = begun - self.start - (self.clock.seconds["evaluation"] - self.evaluated)
        self.steps.append(training_only / -(-len(train) // self.size))
        network = copy.deepcopy(model).train()
        passes = []
        for number in range(PASSES):
            batch = slice(number * self.size, (number + 1) * self.size)
            network.zero_grad()
            passes.append(_seconds(partial(_bare, network, train.images[batch], train.labels[batch], task)))
        self.bare.append(statistics.median(passes))
        network.eval()
        plainly = test.images.contiguous()
        self.ours.append(_seconds(partial(evaluate, network, test)))
        self.plain.append(_seconds(partial(_plain, network, plainly, task)))
        self.start, self.evaluated = time.perf_counter(), self.clock.seconds["evaluation"]
        self.clock.outside += self.start - begun

    def ratios(self) -> dict[str, float]:
        """Medians over the tasks."""
        step, evaluation = zip(self.steps, self.bare, strict=True), zip(self.plain, self.ours, strict=True)
        return {
            "step / bare": statistics.median(ours / bare for ours, bare in step),
            "plain / ours": statistics.median(plain / ours for plain, ours in evaluation),
        }


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _bare(network: TaskModel, images: Tensor, labels: Tensor, task: int) -> None:
    F.cross_entropy(network(images, task), labels).backward()  # type: ignore[no-untyped-call]


@torch.no_grad()
def _plain(network: TaskModel, images: Tensor, task: int) -> None:
    """Plain eager inference on a whole test set."""
    network(images, task).argmax(dim=1)


def run(arguments: tuple[Path, str, int, int]) -> dict[str, float]:
    """Train one run; its seconds, where they went, and the ratios."""
    folder, method, count, seed = arguments
    device = prepare(Compute(device="cpu", threads=1))  # as the pipeline's stages
    plan, tasks = resolve_run(configured(method, count), method), Tasks.open(folder)
    clock = Clock()
    begun = time.perf_counter()
    probe = Probe(plan, tasks, clock)
    with (
        patch("pipeline.training.run.accuracy_row", clock.timed("evaluation", accuracy_row)),
        patch("pipeline.training.run.build_strategy", _on(clock, build_strategy, "backward", "forward, backward")),
        patch("pipeline.training.run.build_optimizer", _on(clock, build_optimizer, "step", "update")),
    ):
        train(plan, tasks, seed, device, after_task=probe.after_task)
    whole = time.perf_counter() - begun - clock.outside
    return {"whole": whole, **clock.seconds, "rest": whole - sum(clock.seconds.values()), **probe.ratios()}


def _on(clock: Clock, build: Callable[..., Any], method: str, name: str) -> Callable[..., Any]:
    """`build`, with one method of what it makes on the clock."""

    def made(*arguments: Any, **named: Any) -> Any:
        built = build(*arguments, **named)
        setattr(built, method, clock.timed(name, getattr(built, method)))
        return built

    return made


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side")
    parser.add_argument("--method", default="tag")
    parser.add_argument("--tasks", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "tasks"
        made_up(place, configured(given.method, given.tasks), given.tasks)
        work = [(place, given.method, given.tasks, seed) for seed in range(1, given.jobs + 1)]
        with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("spawn")) as pool:
            measured = list(pool.map(run, work))
    means = {name: statistics.mean(one[name] for one in measured) for name in measured[0]}
    whole = means["whole"]
    print(f"{given.method} on {BENCHMARK}, {given.tasks} tasks, {given.jobs} side by side, one thread each:")
    print(f"  {whole:.0f} s a run, {3600 / whole * given.jobs:.1f} runs an hour")
    if given.tasks == 20:
        print(f"  (published code: {PUBLISHED} s, {3600 / PUBLISHED * 2:.1f} an hour; goal: 20 an hour)")
    for name in ("forward, backward", "update", "evaluation", "rest"):
        print(f"  {name:20} {means[name]:6.1f} s {100 * means[name] / whole:5.1f} %")
    print(f"  step / bare forward and backward  {means['step / bare']:.3f} (goal: at most 1.2)")
    print(f"  plain eager evaluation / ours     {means['plain / ours']:.2f} (goal: at least 1.5)")


if __name__ == "__main__":
    main()
