"""Streams: raw images -> tasks. A stream turns the images of one dataset, or of several, into a sequence of tasks.

Everything random comes from the stream's own seed and is written into the manifest of the tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pipeline.config.schema import PermutedStream, RotatedStream, SequenceStream, SplitStream
from pipeline.datasets.images import bring_to
from pipeline.support.errors import UserError

Transform = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class RawDataset:
    """What a stream is made of. shape: (height, width[, 3]) of an image. classes: its labels, in order."""

    name: str
    shape: tuple[int, ...]
    classes: tuple[int, ...]


@dataclass(frozen=True)
class TaskView:
    """One task: its name, and how it was made.

    labels: the labels of its classes in its dataset. made: for the manifest. shape: (height, width[, 3]) of its images.
    apply: (n, ...) uint8 images of the dataset -> (n, *shape). dataset: its number, from 0. first_class: the number of the
    dataset's label 0 among the classes of all datasets.
    """

    name: str
    labels: tuple[int, ...]
    made: dict[str, Any]
    shape: tuple[int, ...]
    apply: Transform
    dataset: int = 0
    first_class: int = 0

    @property
    def classes(self) -> tuple[int, ...]:
        """The labels, told apart from those of other datasets."""
        return tuple(self.first_class + label for label in self.labels)


def build_stream(
    stream: RotatedStream | PermutedStream | SplitStream | SequenceStream, datasets: Sequence[RawDataset]
) -> Iterator[TaskView]:
    """The tasks of `stream`, in order. Raises UserError where it does not fit the datasets."""
    return _BUILDERS[stream.name](stream, datasets)


def _rotated(stream: RotatedStream, datasets: Sequence[RawDataset]) -> Iterator[TaskView]:
    """Rotated MNIST's recipe (Lopez-Paz and Ranzato 2017; Stable SGD: 10 degrees a task minus a random part of 10)."""
    (dataset,) = datasets
    jitter = np.random.default_rng(stream.seed).uniform(0, stream.jitter, stream.tasks)
    for task in range(stream.tasks):
        angle = round(float(task * stream.degrees - jitter[task]), 6)
        turn = _rotation(angle, dataset.shape, stream.interpolation)
        yield TaskView(f"rotated {round(angle, 1):g}°", dataset.classes, {"degrees": angle}, dataset.shape, turn)


def _rotation(angle: float, shape: tuple[int, ...], interpolation: str) -> Transform:
    """Counter-clockwise about the centre, corners filled with 0. Pillow's arithmetic in both interpolations."""
    if angle == 0:
        return lambda images: images
    height, width = shape[:2]
    if interpolation == "nearest":
        # A nearest-neighbour rotation only moves pixels: rotate their numbers once, then take, for all images together.
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
    """Permuted MNIST's recipe (Goodfellow et al. 2014): one permutation of the pixels a task, the first the identity."""
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
    """Split CIFAR-100's recipe (Zenke et al. 2017): each task its own classes, equally many."""
    (dataset,) = datasets
    classes = dataset.classes
    if len(classes) % stream.tasks:
        raise UserError(
            f"benchmarks.yaml: stream.tasks: {len(classes)} classes cannot be split evenly into {stream.tasks} tasks; "
            f"choose one of {', '.join(str(n) for n in range(1, len(classes) + 1) if len(classes) % n == 0)}"
        )
    order = np.array(classes)
    if stream.order == "seeded":
        order = np.random.default_rng(stream.seed).permutation(order)
    for part in np.split(order, stream.tasks):
        mine = tuple(sorted(int(label) for label in part))
        yield TaskView(_listed(mine), mine, {"classes": list(mine)}, dataset.shape, lambda images: images)


def _listed(classes: Sequence[int]) -> str:
    """classes 0-4, or classes 3, 17, 20."""
    one_after_another = len(classes) > 2 and list(classes) == list(range(classes[0], classes[-1] + 1))
    return "classes " + (f"{classes[0]}-{classes[-1]}" if one_after_another else ", ".join(map(str, classes)))


def _sequence(stream: SequenceStream, datasets: Sequence[RawDataset]) -> Iterator[TaskView]:
    """5-datasets' recipe (Ebrahimi et al. 2020): one dataset after another, all as RGB images of one size."""
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
