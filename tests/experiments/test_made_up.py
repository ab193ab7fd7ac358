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

import numpy as np
import pytest
import torch
from scipy.io import savemat

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
UNCHECKED_WEIGHTS = """

from dataclasses import replace

RESNET18 = replace(RESNET18, checksum="")
"""


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
    for file, text in (("sources", UNCHECKED), ("weights", UNCHECKED_WEIGHTS)):
        with (clone.folder / f"pipeline/datasets/{file}.py").open("a", encoding="utf-8") as code:
            code.write(text)
    shutil.rmtree(clone.folder / "results", ignore_errors=True)
    presets = clone.folder / "benchmarks.yaml"
    presets.write_text(presets.read_text(encoding="utf-8").replace("    tasks: 20", "    tasks: 2"), encoding="utf-8")
    clone.commit("checks no published file")
    return clone


@pytest.mark.parametrize(
    ("experiment", "make", "tasks", "side"),
    [
        ("tag-split-miniimagenet", miniimagenet, 2, 84),
        ("tag-split-cub", cub, 2, 224),
        ("tag-5-datasets", five_datasets, 5, 32),
    ],
)
def test_an_experiment_runs_on_made_up_data(
    project: Clone, tmp_path: Path, experiment: str, make: Callable[[Path], None], tasks: int, side: int
) -> None:
    make(tmp_path)
    text = project.run(
        "env", f"TAG_DATASETS={tmp_path}",
        sys.executable, "-m", "pipeline", "reproduce", experiment, "--methods", "tag", "--seeds", "1", "-j", "1",
    )  # fmt: skip
    assert f"{experiment}: 1 of " in text
    record = json.loads((project.folder / f"results/{experiment}/runs/tag-1.json").read_text(encoding="utf-8"))
    assert np.array(record["accuracy"]).shape == (tasks + 1, tasks)
    manifest = project.folder / "scratch/reproduce" / experiment / "data/tasks/manifest.json"
    made = json.loads(manifest.read_text(encoding="utf-8"))["tasks"]
    assert all(task["train"]["shape"][1:] == [side, side, 3] for task in made)
    document = (project.folder / "docs/reproductions.md").read_text(encoding="utf-8")
    assert f"| [{experiment}](#{experiment}) |" in document
    assert "| tag (TAG-RMSProp) | 1 of 5 |" in document
