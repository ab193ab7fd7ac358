"""What keeping state costs: seconds of a save after each task against seconds of training that task, on one CPU thread.

    python -m bench.resume [--tasks 20] [--steps 60]

A stream of the size of Split CIFAR-100 (reduced ResNet-18, batch 10, 250 steps per task, random images) under TAG, whose
state is the largest: two moments of every task learnt so far. Each task is trained for a few steps, timed, and counted as
250; the state is saved at its end as training does, and once more for the two minutes that a task does not last.
Evaluation, which takes about as long again, is not counted as training.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from pipeline.models.resnet import ReducedResNet18
from pipeline.optimizers import TAG
from pipeline.support.scratch import INTERVAL, Scratch

STEPS_A_TASK = 250


def main() -> None:
    """Print the cost at some tasks, and over the whole stream."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    model = ReducedResNet18(100)
    optimizer = TAG(model.parameters(), 2.5e-4)
    images, labels = torch.rand(10, 32, 32, 3).permute(0, 3, 1, 2), torch.randint(5, (10,))
    saving = training = 0.0
    with tempfile.TemporaryDirectory() as folder, Scratch(Path(folder) / "run", "key", "bench") as scratch:
        for task in range(given.tasks):
            optimizer.begin_task()
            steps = []
            for _ in range(given.steps):
                start = time.perf_counter()
                optimizer.zero_grad()
                F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                steps.append(time.perf_counter() - start)
            seconds = STEPS_A_TASK * statistics.median(steps)
            start = time.perf_counter()
            scratch.save(f"task {task + 2}", {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
            save = (time.perf_counter() - start) * (1 + seconds / INTERVAL)
            saving, training = saving + save, training + seconds
            if task in (0, 4, 9, given.tasks - 1):
                size = scratch.state.stat().st_size / 1e6
                print(f"after task {task + 1}: {size:.0f} MB, {100 * save / seconds:.2f} % of training the task")
    print(f"whole stream: {saving:.1f} s of {training:.0f} s, {100 * saving / training:.2f} % (goal 2 %)")


if __name__ == "__main__":
    main()
