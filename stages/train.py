"""Stage `train`: train one method with one seed on the whole stream.

    runs/<method>.yaml + data/tasks/ + data/weights/ -> models/<method>/<seed>/, metrics/runs/<method>/<seed>.json

While it runs, logs/live/<method>-<seed>.tsv tells how far it is. If it is killed, it resumes from its state in scratch/
when it is started again.
"""

from __future__ import annotations

from stages.process import begin

begin(__name__)

import shutil
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import read_run_plan
from pipeline.config.reading import read_sections
from pipeline.handover.documents import text_of
from pipeline.handover.runs import Trained
from pipeline.streams.reader import Tasks
from pipeline.support.errors import note, run_stage
from pipeline.support.files import significant, whole_file, whole_folder
from stages.runs import checkpoint, code_of, run_from_arguments

if TYPE_CHECKING:
    from pipeline.training.recorder import Measurements

WEIGHTS = Path("data/weights/resnet18.safetensors")


def main() -> None:
    """Train one method with one seed."""
    run = run_from_arguments()
    plan, tasks, compute = read_run_plan(run.plan), Tasks.open("data/tasks", run.seed), read_sections().compute

    # Importing torch takes seconds, so it comes after everything that is cheap to check.
    import torch

    from pipeline.models import TaskModel, save_checkpoint
    from pipeline.support.compute import machine, portable, prepare
    from pipeline.support.scratch import Scratch, fingerprint
    from pipeline.training.live import Live
    from pipeline.training.loop import train

    device = prepare(compute)
    inputs = [run.plan, tasks.folder / "manifest.json", WEIGHTS.with_name("manifest.json")]
    words = (run.seed, device.type, compute.threads, portable(device), torch.__version__)
    key = fingerprint([*inputs, *code_of("train")], *words)
    with run.logged("train") as log, Scratch(run.scratch("train"), key, f"train {run.name}") as scratch:
        log["machine"] = machine(device)
        weights = WEIGHTS if plan.pretrained else None
        live = Live(Path("logs/live") / f"{run.name}.tsv")

        def save(task: int, model: TaskModel) -> None:
            # Before the next state, which counts on it.
            with whole_file(checkpoint(scratch.folder, task), durable=True) as partial:
                save_checkpoint(model, partial)

        text = scratch.unrecorded()
        if text is None:
            record = train(
                plan, tasks, run.seed, device, after_task=save, weights=weights, scratch=scratch, evaluated=live.write
            )
            text = text_of(Trained, _metrics(record, tasks), run.metrics)
            scratch.finish(text, keep_state=False)
        with whole_folder(run.checkpoints) as folder, whole_file(run.metrics) as file:
            for task in range(len(tasks)):
                shutil.copyfile(checkpoint(scratch.folder, task), checkpoint(folder, task))
            file.write_text(text, encoding="utf-8")
        scratch.settle()
        log["resumed"], log["seconds_before"] = scratch.resumed, round(scratch.seconds_before, 3)
        if live.failure:
            note("train", f"{live.path}: cannot be written: {live.failure}")


def _metrics(record: Measurements, tasks: Tasks) -> dict[str, Any]:
    """What the metrics file of a run holds."""
    from pipeline.analysis.continual import continual_metrics
    from pipeline.analysis.metrics import all_metrics

    metrics: dict[str, Any] = {
        **{name: round(value, 6) for name, value in all_metrics(record.accuracy).items()},
        # None, null in the file, where a task was not evaluated
        "accuracy": [[None if isnan(value) else round(value, 6) for value in row] for row in record.accuracy],
        "test_loss": [[None if isnan(value) else significant(value) for value in row] for row in record.test_loss],
        "train_loss": [[significant(value) for value in row] for row in record.train_loss],
    }
    if record.alpha:
        metrics["alpha"] = [[[significant(value) for value in point] for point in course] for course in record.alpha]
    if record.continual_steps:
        course = [
            [[round(value, 6) for value in row] for row in evaluations] for evaluations in record.continual_accuracy
        ]
        metrics["continual"] = {"steps": record.continual_steps, "accuracy": course}
        metrics |= {name: round(value, 6) for name, value in continual_metrics(record.continual_accuracy).items()}
    if tasks.drawn is not None:
        metrics["classes"] = tasks.classes
    return metrics


if __name__ == "__main__":
    run_stage("train", main)
