"""Recipes of streams: how the images of one or several datasets become a sequence of tasks.

Everything random is drawn from the stream's own seed and recorded in the manifest of the tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pipeline.config.data import PermutedStream, RotatedStream, SequenceStream, SplitStream
from pipeline.datasets.images import bring_to
from pipeline.support.errors import UserError

#: Maps the images of a dataset, (n, height, width[, 3]) uint8, to those of a task, (n, *shape) uint8.
Transform = Callable[[np.ndarray], np.ndarray]
#: Most characters of the names of classes in the name of a task, which stands beside its images in a figure.
LONGEST = 40


@dataclass(frozen=True)
class RawDataset:
    """Description of a dataset that a stream is made from.

    Attributes:
        name: Its name.
        shape: Shape of an image, (height, width[, 3]).
        classes: Its labels, in ascending order.
        names: The names of its classes by label; empty where they are known by their numbers.
    """

    name: str
    shape: tuple[int, ...]
    classes: tuple[int, ...]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskView:
    """One task of a stream, and how to make it from its dataset.

    Attributes:
        name: A short name for figures and the report.
        labels: The labels, in its dataset, of the classes that it shows.
        made: How it is made (angle, permutation, classes, or dataset and original shape), for the manifest.
        shape: Shape of its images, (height, width[, 3]).
        apply: Transforms images of the dataset, (n, ...) uint8, into images of the task, (n, *shape) uint8.
        dataset: The number of its dataset within the stream, from 0.
        class_offset: The number of the dataset's label 0 when the classes of all datasets are numbered consecutively.
    """

    name: str
    labels: tuple[int, ...]
    made: dict[str, Any]
    shape: tuple[int, ...]
    apply: Transform
    dataset: int = 0
    class_offset: int = 0

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes that the task shows, numbered so that classes of different datasets differ."""
        return tuple(self.class_offset + label for label in self.labels)


def build_stream(
    stream: RotatedStream | PermutedStream | SplitStream | SequenceStream, datasets: Sequence[RawDataset]
) -> Iterator[TaskView]:
    """Build the tasks of a stream, in order.

    Args:
        stream: The settings of the stream.
        datasets: One dataset, or several for a sequence.

    Raises:
        UserError: when a task is requested, if the classes cannot be split evenly into tasks.
    """
    return _BUILDERS[stream.name](stream, datasets)


def _rotated(stream: RotatedStream, datasets: Sequence[RawDataset]) -> Iterator[TaskView]:
    """Rotated MNIST (Lopez-Paz and Ranzato 2017): task t is turned by t * degrees - U(0, jitter) degrees.

    Stable SGD uses 10 degrees for both.
    """
    (dataset,) = datasets
    jitter = np.random.default_rng(stream.seed).uniform(0, stream.jitter, stream.tasks)
    for task in range(stream.tasks):
        angle = round(float(task * stream.degrees - jitter[task]), 6)
        turn = _rotation(angle, dataset.shape, stream.interpolation)
        yield TaskView(f"rotated {round(angle, 1):g}°", dataset.classes, {"degrees": angle}, dataset.shape, turn)


def _rotation(angle: float, shape: tuple[int, ...], interpolation: str) -> Transform:
    """Rotate counter-clockwise about the centre, filling corners with 0; both interpolations give Pillow's results."""
    if angle == 0:
        return lambda images: images
    height, width = shape[:2]
    if interpolation == "nearest":
        # A nearest-neighbour rotation only moves pixels: rotate their numbers once, then index all images with them.
        numbers = Image.fromarray(np.arange(1, height * width + 1, dtype=np.int32).reshape(height, width))
        source = np.asarray(numbers.rotate(angle, Image.Resampling.NEAREST, fillcolor=0)).reshape(-1) - 1

        def nearest(images: np.ndarray) -> np.ndarray:
            flat = images.reshape(len(images), height * width, -1)
            turned = np.where(source[None, :, None] >= 0, flat[:, np.maximum(source, 0)], np.uint8(0))
            return turned.reshape(images.shape)

        return nearest

    def bilinear(images: np.ndarray) -> np.ndarray:
        turned = np.empty_like(images)
        for index, image in enumerate(images):
            turned[index] = np.asarray(Image.fromarray(image).rotate(angle, Image.Resampling.BILINEAR))
        return turned

    return bilinear


def _permuted(stream: PermutedStream, datasets: Sequence[RawDataset]) -> Iterator[TaskView]:
    """Permuted MNIST (Goodfellow et al. 2014): one permutation of the pixels per task, the first being the identity."""
    (dataset,) = datasets
    pixels = dataset.shape[0] * dataset.shape[1]
    for task in range(stream.tasks):
        seeds = np.random.SeedSequence(stream.seed, spawn_key=(task,))
        order = np.arange(pixels) if task == 0 else np.random.default_rng(seeds).permutation(pixels)

        def permute(images: np.ndarray, order: np.ndarray = order) -> np.ndarray:
            flat = images.reshape(len(images), pixels, -1)
            return flat[:, order].reshape(images.shape)

        name = "as it is" if task == 0 else f"permutation {task}"
        yield TaskView(name, dataset.classes, {"permutation": order.tolist()}, dataset.shape, permute)


def _split(stream: SplitStream, datasets: Sequence[RawDataset]) -> Iterator[TaskView]:
    """Split CIFAR-100 (Zenke et al. 2017): each task has its own classes, the same number for all tasks.

    With the order `run` there is a view for each class instead, of which the reader makes the tasks of each run.
    """
    (dataset,) = datasets
    classes = _chosen(stream, dataset)
    if len(classes) % stream.tasks:
        raise UserError(
            f"benchmarks.yaml: stream.tasks: {len(classes)} classes cannot be split evenly into {stream.tasks} tasks; "
            f"choose one of {', '.join(str(n) for n in range(1, len(classes) + 1) if len(classes) % n == 0)}"
        )
    if stream.order == "run":
        for label in classes:
            made = _made_of(dataset, (label,))
            yield TaskView(f"class {label}", (label,), made, dataset.shape, lambda images: images)
        return
    order = np.array(classes)
    if stream.order == "seeded":
        order = np.random.default_rng(stream.seed).permutation(order)
    for part in np.split(order, stream.tasks):
        mine = tuple(sorted(int(label) for label in part))
        made = _made_of(dataset, mine)
        yield TaskView(_listed(mine, made.get("names")), mine, made, dataset.shape, lambda images: images)


def _chosen(stream: SplitStream, dataset: RawDataset) -> tuple[int, ...]:
    """The classes from `first_class` to `last_class`. Raises UserError if the dataset does not have one of the two."""
    for key, label in (("first_class", stream.first_class), ("last_class", stream.last_class)):
        if label is not None and label not in dataset.classes:
            raise UserError(
                f"benchmarks.yaml: stream.{key}: {dataset.name} has no class {label}; choose one from "
                f"{dataset.classes[0]} to {dataset.classes[-1]}"
            )
    first = dataset.classes[0] if stream.first_class is None else stream.first_class
    last = dataset.classes[-1] if stream.last_class is None else stream.last_class
    return tuple(label for label in dataset.classes if first <= label <= last)


def _listed(classes: Sequence[int], names: Sequence[str] | None = None) -> str:
    """A name for a task, from the classes that it shows.

    Args:
        classes: Their numbers, ascending.
        names: Their names, if they have any.

    Returns:
        Their names, as in "auk, owl", if a figure can show them in `LONGEST` characters; otherwise "classes 0-4" if the
        numbers follow one another, and "classes 3, 17, 20" if not.
    """
    together = ", ".join(names or ())
    # A dollar sign begins a formula in a figure, whose font has Latin, Greek and Cyrillic letters.
    if 0 < len(together) <= LONGEST and "$" not in together and all(c.isprintable() and c < "\u0530" for c in together):
        return together
    one_after_another = len(classes) > 2 and list(classes) == list(range(classes[0], classes[-1] + 1))
    return "classes " + (f"{classes[0]}-{classes[-1]}" if one_after_another else ", ".join(map(str, classes)))


def _made_of(dataset: RawDataset, labels: tuple[int, ...]) -> dict[str, Any]:
    """The classes of a task for the manifest, with their names if they have any."""
    names = {"names": [dataset.names[label] for label in labels]} if dataset.names else {}
    return {"classes": list(labels), **names}


def _sequence(stream: SequenceStream, datasets: Sequence[RawDataset]) -> Iterator[TaskView]:
    """5-datasets (Ebrahimi et al. 2020): one dataset per task, all images converted to one shape."""
    first = 0
    for number, dataset in enumerate(datasets):
        made = {"dataset": dataset.name, "from": list(dataset.shape)}
        yield TaskView(dataset.name, dataset.classes, made, stream.array, _brought_to(stream.array), number, first)
        first += max(dataset.classes) + 1


def _brought_to(shape: tuple[int, ...]) -> Transform:
    def bring(images: np.ndarray) -> np.ndarray:
        if images.shape[1:] == shape:
            return images
        brought = np.empty((len(images), *shape), np.uint8)
        for index, image in enumerate(images):
            brought[index] = np.asarray(bring_to(Image.fromarray(image), shape))
        return brought

    return bring


_BUILDERS: dict[str, Callable[[Any, Sequence[RawDataset]], Iterator[TaskView]]] = {
    "rotated": _rotated,
    "permuted": _permuted,
    "split": _split,
    "sequence": _sequence,
}
