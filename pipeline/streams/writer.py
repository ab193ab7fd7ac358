"""The writer of data/tasks/: the tasks of a stream, from raw images. What reads them is `pipeline.streams.reader`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.plan import DataPlan
from pipeline.datasets.arrays import Images, Split, write_split
from pipeline.datasets.naming import SPLITS, name_of
from pipeline.handover.documents import write_document
from pipeline.handover.manifests import TasksManifest
from pipeline.streams.recipes import RawDataset, TaskView, build_stream
from pipeline.support.errors import UserError

#: Bytes of images that are in memory at once.
CHUNK = 1 << 25
#: Images of each task that a person is shown.
SHOWN = 10


def held_out(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """A mask of the examples held out for validation: the same fraction of each class, at least one, seeded."""
    generator = np.random.default_rng(seed)
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        of_label = generator.permutation(np.flatnonzero(labels == label))
        mask[of_label[: max(1, round(len(of_label) * fraction))]] = True
    return mask


@dataclass(frozen=True)
class _Part:
    """Some of the images of a dataset: labels of all, numbers of those that belong to it."""

    images: Images
    labels: np.ndarray
    numbers: np.ndarray

    def of_classes(self, labels: Sequence[int]) -> np.ndarray:
        return self.numbers[np.isin(self.labels[self.numbers], labels)]


def _parts(plan: DataPlan, raw: Mapping[str, Split]) -> dict[str, _Part]:
    """What is trained on and what is evaluated on. On validation data the test images are not looked at."""
    images, labels = raw["train"]
    if plan.validation_fraction is not None:
        out = held_out(labels, plan.validation_fraction, plan.stream.seed)
        numbers = {"train": np.flatnonzero(~out), "test": np.flatnonzero(out)}
        return {split: _Part(images, labels, numbers[split]) for split in SPLITS}
    return {split: _Part(*raw[split], np.arange(len(raw[split][1]))) for split in SPLITS}


def write_tasks(
    folder: Path, plan: DataPlan, raw: Sequence[Mapping[str, Split]], progress: Any = lambda tasks: tasks
) -> None:
    """Write the tasks of `plan` into an empty folder, a piece of CHUNK bytes at a time.

    raw: the splits of each dataset, in memory or not. Where the plan evaluates on validation data, `test` holds the held-out
    training images. progress: wraps the iteration over tasks (a progress bar). Raises UserError for a stream that does not
    fit the dataset.
    """
    parts = [_parts(plan, splits) for splits in raw]
    described = [
        RawDataset(name_of(dataset), splits["train"][0].shape[1:], tuple(np.unique(splits["train"][1]).tolist()))
        for dataset, splits in zip(plan.datasets, raw, strict=True)
    ]
    entries, shown = [], []
    for number, view in enumerate(progress(list(build_stream(plan.stream, described))), start=1):
        place = folder / f"task-{number:02d}"
        place.mkdir()
        entry: dict[str, Any] = {"name": view.name, "classes": list(view.classes), "made": view.made}
        for split in SPLITS:
            part = parts[view.dataset][split]
            mine = part.of_classes(view.labels)
            if len(mine) == 0:
                raise UserError(f"benchmarks.yaml: task {number} would have no {split} images; choose other tasks")
            shape = (len(mine), *view.shape)
            labels = np.searchsorted(np.array(view.labels), part.labels[mine])
            pieces = (piece.data for piece in _made(view, part.images, mine))
            entry[split] = {"shape": list(shape), "sha256": write_split(place, split, shape, pieces, labels)}
        part = parts[view.dataset]["train"]
        shown.append(view.apply(part.images[_first(part, view.labels)]))
        entries.append(entry)
    columns = max(len(images) for images in shown)
    padded = [np.pad(images, [(0, columns - len(images))] + [(0, 0)] * len(view.shape)) for images in shown]
    np.save(folder / "first_images.npy", np.stack(padded))
    write_document(TasksManifest, {"plan": plan.model_dump(), "tasks": entries}, folder / "manifest.json")


def _made(view: TaskView, images: Images, numbers: np.ndarray) -> Iterator[np.ndarray]:
    """The task's images, a chunk after another."""
    rows = max(1, CHUNK // int(np.prod(images.shape[1:])))
    for start in range(0, len(numbers), rows):
        yield np.ascontiguousarray(view.apply(images[numbers[start : start + rows]]))


def _first(part: _Part, labels: Sequence[int]) -> np.ndarray:
    """Numbers of (up to) SHOWN images: the first of each class, then the second of each, ..."""
    by_class = [part.of_classes([label])[:SHOWN] for label in labels[:SHOWN]]
    turns = [of_class[turn] for turn in range(SHOWN) for of_class in by_class if turn < len(of_class)]
    return np.array(turns[:SHOWN])
