"""train: runs/<method>.yaml + data/tasks/ -> models/<method>/<seed>/, metrics/runs/<method>/<seed>.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.benchmarks.store import Tasks
from pipeline.config import read_run_plan
from pipeline.errors import run_stage
from pipeline.files import significant, whole_folder, write_json
from stages.runs import checkpoint, read_sections, run_from_arguments

WEIGHTS = Path("data/weights/resnet18.safetensors")


def main() -> None:
    """Train one method with one seed."""
    run = run_from_arguments()
    plan, tasks, compute = read_run_plan(run.plan), Tasks.open("data/tasks"), read_sections().compute

    # torch costs seconds: only once everything cheap is known to be right.
    from pipeline.compute import machine, prepare
    from pipeline.metrics import all_metrics
    from pipeline.models import TaskModel, save_checkpoint
    from pipeline.training import train

    device = prepare(compute)
    with run.logged("train") as log, whole_folder(run.checkpoints) as folder:
        log["machine"] = machine(device)

        def save(task: int, model: TaskModel) -> None:
            save_checkpoint(model, checkpoint(folder, task))

        weights = WEIGHTS if plan.pretrained else None
        record = train(plan, tasks, run.seed, device, after_task=save, weights=weights)
        metrics: dict[str, Any] = {
            **{name: round(value, 6) for name, value in all_metrics(record.accuracy).items()},
            "accuracy": [[round(value, 6) for value in row] for row in record.accuracy],
            "test_loss": [[significant(value) for value in row] for row in record.test_loss],
            "train_loss": [[significant(value) for value in row] for row in record.train_loss],
        }
        if record.alpha:
            metrics["alpha"] = [
                [[significant(value) for value in point] for point in course] for course in record.alpha
            ]
        write_json(run.metrics, metrics)


if __name__ == "__main__":
    run_stage("train", main)
