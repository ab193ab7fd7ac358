"""Arrays on disk: raw splits and tasks, as uint8 .npy files that are memory-mapped when read, beside a manifest.

    data/raw/    manifest.json  train_images.npy  train_labels.npy  test_images.npy  test_labels.npy
    data/tasks/  manifest.json  task-01/{train,test}_{images,labels}.npy  task-02/...

Task labels are positions in the task's own list of classes, from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.benchmarks.sources import SPLITS, Split
from pipeline.benchmarks.spool import Written
from pipeline.benchmarks.streams import build_stream
from pipeline.config.plan import DataPlan
from pipeline.errors import UserError
from pipeline.files import read_json, sha256_of_arrays, write_json

MEND_RAW = "delete data/raw and run 'dvc repro download'"
MEND_TASKS = "delete data/tasks and run 'dvc repro split'"


def write_raw(folder: Path, dataset: str, splits: Mapping[str, Split | Written]) -> None:
    """Write the splits of a dataset into a folder that holds nothing but the files of those already written there."""
    manifest: dict[str, Any] = {"dataset": dataset, "splits": {}}
    for split, found in splits.items():
        if not isinstance(found, Written):
            images, labels = found
            np.save(folder / f"{split}_images.npy", images)
            np.save(folder / f"{split}_labels.npy", labels)
            found = Written(images.shape, sha256_of_arrays(images, labels))
        manifest["splits"][split] = {"shape": list(found.shape), "sha256": found.sha256}
    write_json(folder / "manifest.json", manifest)


def read_raw(folder: Path) -> dict[str, Split]:
    """The splits of `data/raw`, images memory-mapped. Raises UserError for a missing or damaged file."""
    manifest = read_json(folder / "manifest.json", MEND_RAW)
    return {
        split: (
            _read(folder / f"{split}_images.npy", MEND_RAW, tuple(entry["shape"])),
            _read(folder / f"{split}_labels.npy", MEND_RAW, (entry["shape"][0],)),
        )
        for split, entry in manifest["splits"].items()
    }


def held_out(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """A mask of the examples held out for validation: the same fraction of each class, at least one, seeded."""
    generator = np.random.default_rng(seed)
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        of_label = generator.permutation(np.flatnonzero(labels == label))
        mask[of_label[: max(1, round(len(of_label) * fraction))]] = True
    return mask


def write_tasks(folder: Path, plan: DataPlan, raw: Mapping[str, Split], progress: Any = lambda tasks: tasks) -> None:
    """Write the tasks of `plan` into an empty folder.

    Where the plan evaluates on validation data, `test` holds the held-out training images, and the test images are not
    read at all. progress: wraps the iteration over tasks (a progress bar).
    """
    train, test = raw["train"], raw.get("test")
    if plan.validation_fraction is not None:
        out = held_out(train[1], plan.validation_fraction, plan.stream.seed)
        test = (train[0][out], train[1][out])
        train = (train[0][~out], train[1][~out])
    if test is None:
        raise UserError(f"data/raw: no test split; {MEND_RAW}")
    images = {"train": train, "test": test}
    classes = tuple(int(label) for label in np.unique(train[1]))
    entries = []
    for number, view in enumerate(progress(list(build_stream(plan.stream, train[0].shape[1:], classes))), start=1):
        place = folder / f"task-{number:02d}"
        place.mkdir()
        entry: dict[str, Any] = {"name": view.name, "classes": list(view.classes), "made": view.made}
        for split in SPLITS:
            all_images, all_labels = images[split]
            mine = np.flatnonzero(np.isin(all_labels, view.classes))
            if len(mine) == 0:
                raise UserError(f"benchmarks.yaml: task {number} would have no {split} images; choose other tasks")
            made = np.ascontiguousarray(view.apply(all_images[mine]))
            labels = np.searchsorted(np.array(view.classes), all_labels[mine]).astype(np.int64)
            np.save(place / f"{split}_images.npy", made)
            np.save(place / f"{split}_labels.npy", labels)
            entry[split] = {"shape": list(made.shape), "sha256": sha256_of_arrays(made, labels)}
        entries.append(entry)
    write_json(folder / "manifest.json", {"plan": plan.model_dump(), "tasks": entries})


@dataclass(frozen=True)
class Tasks:
    """The tasks of `data/tasks`, read lazily. Tasks are numbered from 0 here, from 1 on disk and in every figure."""

    folder: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Tasks:
        """Raises UserError where the manifest is missing or damaged."""
        folder = Path(folder)
        return cls(folder, read_json(folder / "manifest.json", MEND_TASKS))

    def __len__(self) -> int:
        return len(self.manifest["tasks"])

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width[, channels])."""
        return tuple(self.manifest["tasks"][0]["train"]["shape"][1:])

    @property
    def classes(self) -> list[list[int]]:
        """For each task the dataset's classes it shows."""
        return [list(entry["classes"]) for entry in self.manifest["tasks"]]

    def split(self, task: int, split: str) -> Split:
        """Images (n, height, width[, channels]) uint8, memory-mapped, and labels (n,) int64 in 0..classes-1 of a task.

        Raises UserError for a missing or truncated file.
        """
        place = self.folder / f"task-{task + 1:02d}"
        shape = tuple(self.manifest["tasks"][task][split]["shape"])
        return (
            _read(place / f"{split}_images.npy", MEND_TASKS, shape),
            _read(place / f"{split}_labels.npy", MEND_TASKS, shape[:1]),
        )


def _read(path: Path, mend: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; {mend}") from None
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: truncated or damaged ({error}); {mend}") from None
    if array.shape != shape:
        raise UserError(f"{path}: has shape {array.shape}, its manifest says {shape}; {mend}")
    return array
