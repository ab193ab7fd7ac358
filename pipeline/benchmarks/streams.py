"""Streams: raw images -> tasks. A stream turns the images of one dataset into a sequence of tasks.

Everything random comes from the stream's own seed and is written into the manifest of the tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pipeline.config.schema import PermutedStream, RotatedStream, SplitStream
from pipeline.errors import UserError

Transform = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class TaskView:
    """One task: its name, its classes (labels of the dataset), how it was made, and its images from the dataset's.

    apply: (n, height, width[, 3]) uint8 -> the same shape.
    """

    name: str
    classes: tuple[int, ...]
    made: dict[str, Any]
    apply: Transform


def build_stream(
    stream: RotatedStream | PermutedStream | SplitStream, shape: tuple[int, ...], classes: tuple[int, ...]
) -> Iterator[TaskView]:
    """The tasks of `stream` over images of `shape`, in order."""
    return _BUILDERS[stream.name](stream, shape, classes)


def _rotated(stream: RotatedStream, shape: tuple[int, ...], classes: tuple[int, ...]) -> Iterator[TaskView]:
    """Rotated MNIST's recipe (Lopez-Paz and Ranzato 2017; Stable SGD: 10 degrees a task minus a random part of 10)."""
    jitter = np.random.default_rng(stream.seed).uniform(0, stream.jitter, stream.tasks)
    for task in range(stream.tasks):
        angle = round(float(task * stream.degrees - jitter[task]), 6)
        yield TaskView(
            f"rotated {angle:g}°", classes, {"degrees": angle}, _rotation(angle, shape, stream.interpolation)
        )


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


def _permuted(stream: PermutedStream, shape: tuple[int, ...], classes: tuple[int, ...]) -> Iterator[TaskView]:
    """Permuted MNIST's recipe (Goodfellow et al. 2014): one permutation of the pixels a task, the first the identity."""
    pixels = shape[0] * shape[1]
    for task in range(stream.tasks):
        seeds = np.random.SeedSequence(stream.seed, spawn_key=(task,))
        order = np.arange(pixels) if task == 0 else np.random.default_rng(seeds).permutation(pixels)

        def permute(images: np.ndarray, order: np.ndarray = order) -> np.ndarray:
            flat = images.reshape(len(images), pixels, -1)
            return flat[:, order].reshape(images.shape)

        name = "as it is" if task == 0 else f"permutation {task}"
        yield TaskView(name, classes, {"permutation": order.tolist()}, permute)


def _split(stream: SplitStream, shape: tuple[int, ...], classes: tuple[int, ...]) -> Iterator[TaskView]:
    """Split CIFAR-100's recipe (Zenke et al. 2017): each task its own classes, equally many."""
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
        yield TaskView(f"classes {', '.join(map(str, mine))}", mine, {"classes": list(mine)}, lambda images: images)


_BUILDERS: dict[str, Callable[[Any, tuple[int, ...], tuple[int, ...]], Iterator[TaskView]]] = {
    "rotated": _rotated,
    "permuted": _permuted,
    "split": _split,
}
