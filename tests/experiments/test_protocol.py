"""The protocol of A-GEM's paper: every run with its own order of classes, the usual network, images less their mean."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.config import Configuration, read_configuration, resolve_data, resolve_run
from pipeline.datasets.arrays import Split
from pipeline.streams.reader import Tasks
from pipeline.streams.writer import write_tasks
from pipeline.training.loop import train
from tests.clones import fresh_clone
from tests.paths import ROOT

#: Runs stages in one process, as an import of PyTorch takes seconds. Each argument: a stage, or stage:method:seed.
DRIVER = """
import sys
from stages.process import begin
begin("__main__")
import importlib
for word in sys.argv[1:]:
    sys.argv = word.split(":")
    importlib.import_module(f"stages.{sys.argv[0]}").main()
"""


@pytest.mark.parametrize(
    ("benchmark", "tasks", "classes"),
    [("split-cifar100-chaudhry", 17, range(15, 100)), ("split-cifar100-chaudhry-tuning", 3, range(15))],
)
def test_the_benchmark_trains_on_images_in_the_form_of_cifar100(
    tmp_path: Path, benchmark: str, tasks: int, classes: range
) -> None:
    base = read_configuration(ROOT)
    params = base.params.model_copy(update={"benchmark": benchmark})
    configuration = Configuration(params, base.benchmarks, base.methods)
    draw = np.random.default_rng(0)
    raw: dict[str, Split] = {
        split: (draw.integers(0, 256, (100 * count, 32, 32, 3), np.uint8), np.repeat(np.arange(100), count))
        for split, count in (("train", 2), ("test", 1))
    }
    write_tasks(tmp_path, resolve_data(configuration), [raw])
    stream = Tasks.open(tmp_path, 1)
    assert [len(of_task) for of_task in stream.classes] == [5] * tasks
    assert sorted(label for of_task in stream.classes for label in of_task) == list(classes)
    record = train(resolve_run(configuration, "naive"), stream, 1, torch.device("cpu"))
    assert np.shape(record.accuracy) == (tasks + 1, tasks)
    assert [len(losses) for losses in record.train_loss] == [1] * tasks


def test_every_stage_takes_the_tasks_that_the_run_drew(tmp_path: Path) -> None:
    clone = fresh_clone(tmp_path)
    clone.edit("params.yaml", "  - stable-ewc\n", "")
    clone.edit("params.yaml", "stable: stable-ewc", "stable: naive")
    clone.edit("params.yaml", "  - 1\n", "  - 1\n  - 2\n")
    clone.edit("params.yaml", "  k: 3 ", "  k: 1 ")
    clone.edit(
        "benchmarks.yaml",
        "    name: rotated\n    tasks: 2\n    degrees: 30.0\n    interpolation: bilinear\n",
        "    name: split\n    tasks: 3\n    first_class: 1\n    order: run\n",
    )
    clone.edit("benchmarks.yaml", "    outputs: task\n", "    outputs: task\n    pixels: mean-image\n")
    clone.edit("benchmarks.yaml", "    epochs: 1\n", "    epochs: 1\n    evaluate_every: 4\n    evaluate_images: 30\n")
    runs = ("train:naive:1", "train:naive:2", "eigenspectrum:naive:2")
    clone.run(sys.executable, "-c", DRIVER, "plan", "download", "split", *runs, "summarize", "figures")

    drawn, measured = {}, {}
    for seed in (1, 2):
        path = clone.folder / f"metrics/runs/naive/{seed}.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        drawn[seed], measured[seed] = found["classes"], found
        assert found["classes"] == Tasks.open(clone.folder / "data/tasks", seed).classes
        assert found["continual"]["steps"][0][:2] == [4, 8]
    assert drawn[1] != drawn[2]
    path = clone.folder / "metrics/runs/naive/2.eigenspectrum.json"
    spectra = json.loads(path.read_text(encoding="utf-8"))
    # The loss of each task but the last on its test images, right after it: other tasks would have other losses.
    for task, spectrum in enumerate(spectra["tasks"][:-1]):
        wanted = measured[2]["test_loss"][task + 1][task]
        assert spectrum["movement"][0]["line_loss"][0] == pytest.approx(wanted, rel=1e-4)

    summary = pd.read_csv(clone.folder / "metrics/summary.csv")
    means = {
        name: np.mean([measured[seed][name] for seed in (1, 2)]) for name in ("worst_case_accuracy", "stability_gap")
    }
    for name, mean in means.items():
        assert summary[name].tolist() == [pytest.approx(mean, abs=1e-6)]
    report = (clone.folder / "figures/report.md").read_text(encoding="utf-8")
    for words in ("## Classes of the tasks", "worst-case accuracy (%)", "average anytime accuracy (%)", "order run"):
        assert words in report
    for seed in (1, 2):
        for classes in drawn[seed]:
            assert f" {', '.join(map(str, classes))} |" in report
