"""Steps a second of whole training steps on a GPU beside one CPU thread, for processes that share the GPU.

    python -m bench.gpu [--experiment NAME] [--methods naive tag er agem] [--processes 1 4 8] [--seconds 5]

Each process trains the network of a published experiment with one of its methods, on random images of the stream's size, in
the middle of the third task. What counts is the sum over the processes. On a CPU earlier tasks have five
steps, so that a memory of more than 50 images per task is not full there.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import queue
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any

import numpy as np
import torch

from pipeline.config import read_configuration
from pipeline.config.plan import resolve_run
from pipeline.experiments.experiments import configured, read_experiments
from pipeline.models import TaskTensors, outputs_of_tasks
from pipeline.models.build import build_model
from pipeline.models.inputs import layout
from pipeline.optimizers import build_optimizer
from pipeline.optimizers.tasks import begin_task
from pipeline.strategies import Batch, Stream, build_strategy
from pipeline.support.compute import prepare

TASKS, CLASSES, IMAGES = 3, 5, 1300
#: Seconds for all processes to be ready.
TIMEOUT = 300
SIZES = {"split-cifar100": 32, "split-cifar100-chaudhry": 32, "split-miniimagenet": 84}


def stepper(experiment: str, method: str, device: str) -> Callable[[], None]:
    """A function that makes one whole step in the middle of the third task."""
    found, base = read_experiments()[experiment], read_configuration()
    configuration = configured(base, experiment, found)
    plan = resolve_run(configuration, method)
    place = prepare(base.params.compute.model_copy(update={"device": device}))
    classes = [list(range(task * CLASSES, (task + 1) * CLASSES)) for task in range(TASKS)]
    outputs = outputs_of_tasks(classes, plan.model.outputs)
    size = SIZES[found.benchmark]
    mean = torch.full((3, size, size), 0.5) if plan.model.pixels == "mean-image" else None
    torch.manual_seed(0)
    model = build_model(plan.model, (size, size, 3), classes, plan.regime.dropout, None, mean).to(place)
    optimizer = build_optimizer(model.named_parameters(), **plan.optimizer.model_dump(exclude_none=True))
    batch_size = plan.training.batch_size
    strategy = build_strategy(plan.strategy, Stream(outputs, batch_size, np.random.default_rng(0)))
    model.train()

    def batch(task: TaskTensors, number: int) -> Batch:
        first = number * batch_size % (len(task) - batch_size)
        return Batch(task.images[first : first + batch_size], task.labels[first : first + batch_size], task.task)

    def step(task: TaskTensors, number: int) -> None:
        optimizer.zero_grad()
        strategy.backward(model, batch(task, number))
        optimizer.step()
        strategy.after_step(model)

    for number in range(TASKS):
        images = torch.randint(256, (IMAGES, 3, size, size), dtype=torch.uint8).to(place)
        images = images.contiguous(memory_format=layout(place))
        labels = torch.tensor(outputs[number], device=place)[torch.arange(IMAGES, device=place) % CLASSES]
        task = TaskTensors(number, images, labels)
        begin_task(optimizer)
        strategy.begin_task(task)
        if number < TASKS - 1:
            for each in range(IMAGES // batch_size if device != "cpu" else 5):
                step(task, each)
            strategy.end_task(model, task)
    count = 0

    def one() -> None:
        nonlocal count
        step(task, count)
        count += 1

    return one


def worker(options: tuple[str, str, str, float], barrier: Barrier, results: Any) -> None:
    """Steps a second of one process, once all are ready."""
    experiment, method, device, seconds = options
    try:
        step = stepper(experiment, method, device)
        for _ in range(20 if device != "cpu" else 3):
            step()
    except BaseException:
        barrier.abort()  # the others would wait for this one
        raise
    if device != "cpu":
        torch.cuda.synchronize()
    barrier.wait(timeout=TIMEOUT)
    begun, steps = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        for _ in range(10 if device != "cpu" else 1):
            step()
            steps += 1
        if device != "cpu":
            torch.cuda.synchronize()
    results.put(steps / (time.perf_counter() - begun))


def rate(experiment: str, method: str, device: str, processes: int, seconds: float) -> float:
    """Steps a second of all processes together."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    started = [
        context.Process(target=worker, args=((experiment, method, device, seconds), barrier, results), daemon=True)
        for _ in range(processes)
    ]
    for process in started:
        process.start()
    rates: list[float] = []
    while len(rates) < processes:
        with contextlib.suppress(queue.Empty):
            rates.append(results.get(timeout=1))
        if any(process.exitcode for process in started):
            raise SystemExit(f"{method} on {device}: a process failed, see above")
    for process in started:
        process.join()
    return sum(rates)


def main() -> None:
    """Print one line for each method and number of processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="tag-split-cifar100")
    parser.add_argument("--methods", nargs="+", default=["naive", "tag", "er", "agem"])
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 4, 8])
    parser.add_argument("--seconds", type=float, default=5.0)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("--devices", nargs="+", default=devices)
    given = parser.parse_args()
    known = [name for name, experiment in read_experiments().items() if experiment.benchmark in SIZES]
    if given.experiment not in known:
        parser.error(f"--experiment {given.experiment}: one of {', '.join(known)}")
    methods = read_experiments()[given.experiment].methods
    if unknown := [method for method in given.methods if method not in methods]:
        parser.error(f"--methods {' '.join(unknown)}: {given.experiment} has {', '.join(methods)}")
    print(
        f"{given.experiment}; {torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU'}; steps per second"
    )
    for method in given.methods:
        words = [f"{method:>14}"]
        for device in given.devices:
            for processes in given.processes if device == "cuda" else [1]:
                found = rate(given.experiment, method, device, processes, given.seconds)
                words.append(f"{device} x{processes}: {found:8.1f}")
        print("  ".join(words), flush=True)


if __name__ == "__main__":
    main()
