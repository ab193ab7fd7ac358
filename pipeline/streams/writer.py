"""Writer of data/tasks/: make the tasks of a stream from raw images. `pipeline.streams.reader` reads them."""

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

#: Bytes of images that are held in memory at a time.
CHUNK = 1 << 25
#: Largest number of images per task in first_images.npy, from which the figures show examples.
SHOWN = 10


def held_out(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Draw the examples held out for validation: the same fraction of each class, at least one example and never all.

    Of a class with one example none is held out.

    Args:
        labels: (n,) labels of the training images.
        fraction: The share to hold out.
        seed: Seed of the draw.

    Returns:
        (n,) bool, True for the examples held out.
    """
    generator = np.random.default_rng(seed)
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        of_label = generator.permutation(np.flatnonzero(labels == label))
        mask[of_label[: min(max(1, round(len(of_label) * fraction)), len(of_label) - 1)]] = True
    return mask


@dataclass(frozen=True)
class _Part:
    """A subset of a dataset: all of its images and labels, and the positions of those in the subset."""

    images: Images
    labels: np.ndarray
    numbers: np.ndarray

    def of_classes(self, labels: Sequence[int]) -> np.ndarray:
        return self.numbers[np.isin(self.labels[self.numbers], labels)]


def _parts(plan: DataPlan, raw: Mapping[str, Split]) -> dict[str, _Part]:
    """The images to train on and to evaluate on. When evaluating on validation data, the test images are never read."""
    images, labels = raw["train"]
    if plan.validation_fraction is not None:
        out = held_out(labels, plan.validation_fraction, plan.stream.seed)
        numbers = {"train": np.flatnonzero(~out), "test": np.flatnonzero(out)}
        return {split: _Part(images, labels, numbers[split]) for split in SPLITS}
    return {split: _Part(*raw[split], np.arange(len(raw[split][1]))) for split in SPLITS}


def _refuse_classes_of_one(views: Sequence[TaskView], parts: Sequence[Mapping[str, _Part]]) -> None:
    """Raise UserError if a task shows a class of which nothing could be held out for validation."""
    judged = [np.unique(part["test"].labels[part["test"].numbers]) for part in parts]
    for view in views:
        for label in np.setdiff1d(view.labels, judged[view.dataset]):
            raise UserError(
                f"benchmarks.yaml: validation_fraction: class {label} has one training image only; add images, or train "
                "without validation"
            )


def write_tasks(
    folder: Path,
    plan: DataPlan,
    raw: Sequence[Mapping[str, Split]],
    sources: Mapping[str, str] | None = None,
    progress: Any = lambda tasks: tasks,
    classes: Sequence[Sequence[str] | None] | None = None,
) -> None:
    """Write the tasks of a plan, with a manifest, in chunks of about `CHUNK` bytes.

    If the plan evaluates on validation data, the split `test` of each task holds training images that were held out.

    Args:
        folder: An existing, empty folder.
        plan: The stream, and what to hold out for validation.
        raw: For each dataset of the plan, its splits, in memory or on disk.
        sources: What was read of datasets that could not be verified or are one's own, by name, for the manifest.
        progress: Wraps the list of tasks that is iterated over, for a progress bar.
        classes: For each dataset the names of its classes by label, or None where they are known by their numbers; None
            for none.

    Raises:
        UserError: if the classes cannot be split evenly into tasks, a task would have no images, or one has a class of
            which no image could be held out.
    """
    parts = [_parts(plan, splits) for splits in raw]
    described = [
        RawDataset(
            name_of(dataset),
            splits["train"][0].shape[1:],
            tuple(np.unique(splits["train"][1]).tolist()),
            tuple(names or ()),
        )
        for dataset, splits, names in zip(plan.datasets, raw, classes or [None] * len(raw), strict=True)
    ]
    views = list(build_stream(plan.stream, described))
    if plan.validation_fraction is not None:
        _refuse_classes_of_one(views, parts)
    entries, shown = [], []
    for number, view in enumerate(progress(views), start=1):
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
    told = {"sources": dict(sources)} if sources else {}
    write_document(TasksManifest, {"plan": plan.model_dump(), "tasks": entries, **told}, folder / "manifest.json")


def _made(view: TaskView, images: Images, numbers: np.ndarray) -> Iterator[np.ndarray]:
    """The task's images, one chunk at a time."""
    rows = max(1, CHUNK // max(int(np.prod(images.shape[1:])), int(np.prod(view.shape))))
    for start in range(0, len(numbers), rows):
        yield np.ascontiguousarray(view.apply(images[numbers[start : start + rows]]))


def _first(part: _Part, labels: Sequence[int]) -> np.ndarray:
    """Positions of up to SHOWN images: the first of each class, then the second of each, and so on."""
    by_class = [part.of_classes([label])[:SHOWN] for label in labels[:SHOWN]]
    turns = [of_class[turn] for turn in range(SHOWN) for of_class in by_class if turn < len(of_class)]
    return np.array(turns[:SHOWN])
