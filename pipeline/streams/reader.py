"""Reader of data/tasks/: the tasks of a stream as uint8 .npy files, memory-mapped, beside a manifest.

    data/tasks/  manifest.json  first_images.npy  task-01/{train,test}_{images,labels}.npy  task-02/...

The labels of a task are positions in its own list of classes, from 0. The writer, `pipeline.streams.writer`, is a
separate module so that a change to it causes no retraining unless it changes the tasks.

Where the order of the classes is drawn in every run (a split stream with `order: run`), each folder holds a single
class, and the tasks of a run are put together here, nowhere else: whoever reads the tasks of a run opens them with its
seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.arrays import check_sum, loaded, mapped
from pipeline.handover.documents import checked
from pipeline.handover.manifests import TasksManifest
from pipeline.support.errors import UserError
from pipeline.support.files import read_json
from pipeline.support.randomness import generator

FIX = "delete data/tasks and run 'dvc repro split'"


@dataclass(frozen=True)
class Tasks:
    """The tasks in `data/tasks`, read on demand. Tasks are numbered from 0 here, from 1 on disk and in all figures.

    Attributes:
        folder: The folder with the manifest.
        manifest: The manifest as it was read; see `pipeline.handover.manifests.TasksManifest`.
        drawn: For each task of a run that draws the order of the classes, the positions of its classes in the manifest,
            ascending. None where every run has the tasks of the manifest.
    """

    folder: Path
    manifest: Mapping[str, Any]
    drawn: Sequence[Sequence[int]] | None = None

    @classmethod
    def open(cls, folder: str | Path, seed: int | None = None) -> Tasks:
        """Read the manifest of a folder of tasks; images are read later.

        Args:
            folder: The folder.
            seed: The seed of the run whose tasks they are. It matters only where the order of the classes is drawn in
                every run, and may not be missing there.

        Raises:
            UserError: if the manifest is missing or damaged.
            ValueError: if every run draws the order of the classes, and no seed is given.
        """
        folder = Path(folder)
        path = folder / "manifest.json"
        manifest = read_json(path, FIX)
        checked(TasksManifest, manifest, path, FIX)
        drawn = None
        stream = manifest["plan"]["stream"]
        if stream.get("order") == "run":
            if seed is None:
                raise ValueError(f"{path}: every run draws its own tasks; open them with the seed of a run")
            order = generator(seed, "classes").permutation(len(manifest["tasks"]))
            drawn = [sorted(part.tolist()) for part in np.split(order, stream["tasks"])]
        # The manifest as it is: the report describes the stream in the file's own order of keys.
        return cls(folder, manifest, drawn)

    def __len__(self) -> int:
        return len(self.manifest["tasks"] if self.drawn is None else self.drawn)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of an image, the same in all tasks: (height, width[, channels])."""
        return tuple(self.manifest["tasks"][0]["train"]["shape"][1:])

    @property
    def classes(self) -> list[list[int]]:
        """For each task, its classes; see `pipeline.streams.recipes.TaskView.classes`."""
        entries = self.manifest["tasks"]
        return [
            [label for part in self._parts(task) for label in entries[part]["classes"]] for task in range(len(self))
        ]

    @property
    def names(self) -> list[str]:
        """For each task, a short name for figures and the report."""
        if self.drawn is None:
            return [entry["name"] for entry in self.manifest["tasks"]]
        return [f"classes {', '.join(map(str, classes))}" for classes in self.classes]

    def first_images(self) -> np.ndarray:
        """Read the first training images of each task.

        Returns:
            (tasks, n, height, width[, channels]) uint8. Tasks with fewer than n images are padded with black ones.

        Raises:
            UserError: if the file is missing or damaged.
        """
        path = self.folder / "first_images.npy"
        entries, shape = self.manifest["tasks"], self.image_shape
        stored = np.array(
            loaded(path, np.uint8, FIX, lambda found: found[:1] == (len(entries),) and found[2:] == shape)
        )
        if self.drawn is None:
            return stored
        images = np.zeros((len(self), *stored.shape[1:]), np.uint8)
        for task, parts in enumerate(self.drawn):
            held = {part: entries[part]["train"]["shape"][0] for part in parts}
            turns = [(part, turn) for turn in range(stored.shape[1]) for part in parts if turn < held[part]]
            for place, (part, turn) in enumerate(turns[: stored.shape[1]]):
                images[task, place] = stored[part, turn]
        return images

    def count(self, task: int, split: str) -> int:
        """Return how many examples a split of a task has, without opening it.

        Args:
            task: Number of the task, from 0.
            split: "train" or "test".
        """
        entries = self.manifest["tasks"]
        return sum(int(entries[part][split]["shape"][0]) for part in self._parts(task))

    def split(self, task: int, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Verify a split of a task and open it.

        Args:
            task: Number of the task, from 0.
            split: "train" or "test".

        Returns:
            Images, (n, height, width[, channels]) uint8, and labels, (n,) int64 in 0..classes-1, both memory-mapped
            unless the task is put together from several folders.

        Raises:
            UserError: if a file is missing or damaged, does not match its checksum, or has labels out of range.
        """
        parts = self._parts(task)
        opened = [self._stored(part, split) for part in parts]
        if len(opened) == 1:
            return opened[0]
        counts = [len(self.manifest["tasks"][part]["classes"]) for part in parts]
        labels = [labels + sum(counts[:place]) for place, (_, labels) in enumerate(opened)]
        return np.concatenate([images for images, _ in opened]), np.concatenate(labels)

    def _parts(self, task: int) -> Sequence[int]:
        """The positions in the manifest of what a task consists of."""
        return [task] if self.drawn is None else self.drawn[task]

    def _stored(self, number: int, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Verify and map a split of the folder with this position in the manifest."""
        place = self.folder / f"task-{number + 1:02d}"
        entry = self.manifest["tasks"][number]
        shape = tuple(entry[split]["shape"])
        images = mapped(place / f"{split}_images.npy", shape, np.uint8, FIX)
        labels = mapped(place / f"{split}_labels.npy", shape[:1], np.int64, FIX)
        check_sum(images, labels, entry[split]["sha256"], FIX)
        if labels.max() >= len(entry["classes"]) or labels.min() < 0:
            raise UserError(f"{place}/{split}_labels.npy: has labels outside 0..{len(entry['classes']) - 1}; {FIX}")
        return images, labels
