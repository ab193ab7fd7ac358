"""Experiments whose data are too large for the tests, or not free to fetch, run on small made-up data in the same form.

Everything from the official files to the report is the project's; only the checksums of the published files are not asked,
and Split miniImageNet and CUB are two tasks instead of twenty.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat

from pipeline.config import read_configuration
from pipeline.experiments.experiments import configured, read_experiments
from pipeline.experiments.workspace import prepare
from tests.clones import Clone, fresh_clone
from tests.datasets.test_archives import pack
from tests.datasets.test_folders import lay
from tests.datasets.test_official import cifar, cub_folder, mini_file, write_idx

GENERATOR = np.random.default_rng(0)
UNCHECKED = """

from dataclasses import replace

SOURCES = {
    name: replace(source, sha256={}, files=tuple(replace(file, checksum="") for file in source.files))
    for name, source in SOURCES.items()
}
"""
#: The stages of one run in one process: each of its own would import PyTorch anew.
STAGES = """
import sys
from stages.process import begin
begin("__main__")
import importlib
for stage, *arguments in (["plan"], ["download"], ["split"], ["train", "tag", "1"]):
    sys.argv = [stage, *arguments]
    importlib.import_module(f"stages.{stage}").main()
"""
UNCHECKED_WEIGHTS = """

from dataclasses import replace

RESNET18 = replace(RESNET18, checksum="")
"""
FEW_CLASSES = "\n\nPARTS, PER_CLASS = (2, 1, 1), 5\n"


def miniimagenet(folder: Path) -> None:
    for part, classes in (("train", 2), ("test", 1), ("val", 1)):
        mini_file(folder / f"mini-imagenet-cache-{part}.pkl", classes)


def cub(folder: Path) -> None:
    from torchvision.models import resnet18  # imported here because it takes seconds

    birds: dict[str, tuple[int, ...]] = {
        f"{bird:03d}.Bird/{number}.png": (50 + bird, 60, 3) for bird in range(1, 5) for number in range(4)
    }
    pack(cub_folder(folder / "made", birds).parent, folder / "CUB_200_2011.tgz")
    torch.save(resnet18(weights=None).state_dict(), folder / "resnet18-f37072fd.pth")


def five_datasets(folder: Path) -> None:
    archive, _ = cifar(folder, [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"], "labels")
    archive.rename(folder / "cifar-10-python.tar.gz")
    labels = np.arange(20, dtype=np.uint8) % 10
    for place in (folder / "MNIST/raw", folder / "FashionMNIST/raw"):
        place.mkdir(parents=True)
        for split in ("train", "t10k"):
            write_idx(place / f"{split}-images-idx3-ubyte.gz", GENERATOR.integers(0, 256, (20, 28, 28), np.uint8))
            write_idx(place / f"{split}-labels-idx1-ubyte.gz", labels)
    for split in ("train", "test"):
        images = GENERATOR.integers(0, 256, (32, 32, 3, 20), np.uint8)
        savemat(folder / f"{split}_32x32.mat", {"X": images, "y": (labels + 1).reshape(-1, 1)})
    letters = {letter: GENERATOR.integers(0, 256, (5, 28, 28), np.uint8) for letter in "ABCDEFGHIJ"}
    laid = lay(folder / "made" / "notMNIST_small", {"": letters})
    pack(laid.parent, folder / "notMNIST_small.tar.gz")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    clone = fresh_clone(tmp_path_factory.mktemp("made-up"))
    (clone.folder / "docs").mkdir(exist_ok=True)
    (clone.folder / "docs/reproductions.md").write_text("# Rerun\n<!-- table -->\n<!-- /table -->\n", encoding="utf-8")
    for file, text in (("sources", UNCHECKED), ("weights", UNCHECKED_WEIGHTS), ("miniimagenet", FEW_CLASSES)):
        with (clone.folder / f"pipeline/datasets/{file}.py").open("a", encoding="utf-8") as code:
            code.write(text)
    shutil.rmtree(clone.folder / "results", ignore_errors=True)
    presets = clone.folder / "benchmarks.yaml"
    presets.write_text(presets.read_text(encoding="utf-8").replace("    tasks: 20", "    tasks: 2"), encoding="utf-8")
    clone.commit("checks no published file")
    return clone


def test_an_experiment_runs_on_made_up_data(project: Clone, tmp_path: Path) -> None:
    """From the files of the dataset to the record, the report and the document."""
    experiment = "tag-split-cub"
    cub(tmp_path)
    text = project.run(
        "env", f"TAG_DATASETS={tmp_path}",
        sys.executable, "-m", "pipeline", "reproduce", experiment, "--methods", "tag", "--seeds", "1", "-j", "1",
    )  # fmt: skip
    assert f"{experiment}: 1 of " in text
    record = json.loads((project.folder / f"results/{experiment}/runs/tag-1.json").read_text(encoding="utf-8"))
    assert_trained(record, project.folder / "scratch/reproduce" / experiment, tasks=2, side=224)
    document = (project.folder / "docs/reproductions.md").read_text(encoding="utf-8")
    assert f"| [{experiment}](#{experiment}) |" in document
    assert "| tag (TAG-RMSProp) | 1 of 5 |" in document


@pytest.mark.parametrize(
    ("experiment", "make", "tasks", "side"),
    [("tag-split-miniimagenet", miniimagenet, 2, 84), ("tag-5-datasets", five_datasets, 5, 32)],
)
def test_the_stages_of_an_experiment_run_on_made_up_data(
    project: Clone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    experiment: str,
    make: Callable[[Path], None],
    tasks: int,
    side: int,
) -> None:
    """What differs from one experiment to the next: the files, the tasks and the network."""
    make(tmp_path)
    monkeypatch.chdir(project.folder)
    folder = prepare(experiment, configured(read_configuration(), experiment, read_experiments()[experiment]))
    Clone(folder).run("env", f"TAG_DATASETS={tmp_path}", sys.executable, "-c", STAGES)
    metrics = json.loads((folder / "metrics/runs/tag/1.json").read_text(encoding="utf-8"))
    assert_trained(metrics, folder, tasks, side)


def assert_trained(metrics: dict[str, Any], folder: Path, tasks: int, side: int) -> None:
    """A run on so many tasks of square images in colour."""
    assert np.array(metrics["accuracy"]).shape == (tasks + 1, tasks)
    made = json.loads((folder / "data/tasks/manifest.json").read_text(encoding="utf-8"))["tasks"]
    assert len(made) == tasks
    assert all(task["train"]["shape"][1:] == [side, side, 3] for task in made)
