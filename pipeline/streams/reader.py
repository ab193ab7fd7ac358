"""Tasks on disk, as uint8 .npy files that are memory-mapped when read, beside a manifest.

    data/tasks/  manifest.json  first_images.npy  task-01/{train,test}_{images,labels}.npy  task-02/...

Task labels are positions in the task's own list of classes, from 0. This is the reader; a change of the writer,
`pipeline.streams.writer`, retrains nothing unless it changes the tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.arrays import check_sum, loaded, mapped
from pipeline.handover.documents import checked
from pipeline.handover.manifests import TasksManifest
from pipeline.support.errors import UserError
from pipeline.support.files import read_json

FIX = "delete data/tasks and run 'dvc repro split'"


@dataclass(frozen=True)
class Tasks:
    """The tasks of `data/tasks`, read lazily. Tasks are numbered from 0 here, from 1 on disk and in every figure."""

    folder: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Tasks:
        """Raises UserError where the manifest is missing or damaged."""
        folder = Path(folder)
        path = folder / "manifest.json"
        manifest = read_json(path, FIX)
        checked(TasksManifest, manifest, path, FIX)
        return cls(folder, manifest)  # as it stands: the report tells the stream in the file's own order

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

    @property
    def names(self) -> list[str]:
        """For each task what a person calls it."""
        return [entry["name"] for entry in self.manifest["tasks"]]

    def first_images(self) -> np.ndarray:
        """(tasks, n, height, width[, channels]) uint8: the first training images of each task, padded with black ones.

        Raises UserError for a missing or damaged file.
        """
        path = self.folder / "first_images.npy"
        count, shape = len(self), self.image_shape
        return np.array(loaded(path, np.uint8, FIX, lambda found: found[:1] == (count,) and found[2:] == shape))

    def split(self, task: int, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Images (n, height, width[, channels]) uint8, memory-mapped, and labels (n,) int64 in 0..classes-1 of a task.

        Raises UserError for a missing or damaged file, also where only its checksum tells.
        """
        place = self.folder / f"task-{task + 1:02d}"
        entry = self.manifest["tasks"][task]
        shape = tuple(entry[split]["shape"])
        images = mapped(place / f"{split}_images.npy", shape, np.uint8, FIX)
        labels = mapped(place / f"{split}_labels.npy", shape[:1], np.int64, FIX)
        check_sum(images, labels, entry[split]["sha256"], FIX)
        if labels.max() >= len(entry["classes"]) or labels.min() < 0:
            raise UserError(f"{place}/{split}_labels.npy: has labels outside 0..{len(entry['classes']) - 1}; {FIX}")
        return images, labels
