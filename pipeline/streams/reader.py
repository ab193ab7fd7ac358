"""Reader of data/tasks/: the tasks of a stream as uint8 .npy files, memory-mapped, beside a manifest.

    data/tasks/  manifest.json  first_images.npy  task-01/{train,test}_{images,labels}.npy  task-02/...

The labels of a task are positions in its own list of classes, from 0. The writer, `pipeline.streams.writer`, is a
separate module so that a change to it causes no retraining unless it changes the tasks.
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
    """The tasks in `data/tasks`, read on demand. Tasks are numbered from 0 here, from 1 on disk and in all figures.

    Attributes:
        folder: The folder with the manifest.
        manifest: The manifest as it was read; see `pipeline.handover.manifests.TasksManifest`.
    """

    folder: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Tasks:
        """Read the manifest of a folder of tasks; images are read later.

        Raises:
            UserError: if the manifest is missing or damaged.
        """
        folder = Path(folder)
        path = folder / "manifest.json"
        manifest = read_json(path, FIX)
        checked(TasksManifest, manifest, path, FIX)
        return cls(folder, manifest)  # unchanged: the report describes the stream in the file's own order of keys

    def __len__(self) -> int:
        return len(self.manifest["tasks"])

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of an image, the same in all tasks: (height, width[, channels])."""
        return tuple(self.manifest["tasks"][0]["train"]["shape"][1:])

    @property
    def classes(self) -> list[list[int]]:
        """For each task, its classes; see `pipeline.streams.recipes.TaskView.classes`."""
        return [list(entry["classes"]) for entry in self.manifest["tasks"]]

    @property
    def names(self) -> list[str]:
        """For each task, a short name for figures and the report."""
        return [entry["name"] for entry in self.manifest["tasks"]]

    def first_images(self) -> np.ndarray:
        """Read the first training images of each task.

        Returns:
            (tasks, n, height, width[, channels]) uint8. Tasks with fewer than n images are padded with black ones.

        Raises:
            UserError: if the file is missing or damaged.
        """
        path = self.folder / "first_images.npy"
        count, shape = len(self), self.image_shape
        return np.array(loaded(path, np.uint8, FIX, lambda found: found[:1] == (count,) and found[2:] == shape))

    def split(self, task: int, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Verify a split of a task and open it.

        Args:
            task: Number of the task, from 0.
            split: "train" or "test".

        Returns:
            Images, (n, height, width[, channels]) uint8, and labels, (n,) int64 in 0..classes-1, both memory-mapped.

        Raises:
            UserError: if a file is missing or damaged, does not match its checksum, or has labels out of range.
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
