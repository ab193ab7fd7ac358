"""Images that go to disk as they come and are written again in canonical order, so that memory stays flat.

Plain reads and writes, no memory map: pages of a map count as the process's own memory once they are touched.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import TracebackType

import numpy as np

from pipeline.datasets.arrays import write_split


@dataclass(frozen=True)
class Written:
    """A split that is on disk already. sha256: of the images, then of the labels as little-endian int64."""

    shape: tuple[int, ...]
    sha256: str


class Spool:
    """A temporary file of images of one shape; images are known by their number, from 0. To be used in a with block."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path, self.shape = path, shape
        self.size = int(np.prod(shape))
        self.count = 0
        self._file = path.open("w+b")

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        self.path.unlink()

    def add(self, image: np.ndarray) -> int:
        """Append an image; its number. All images are added before the first is read."""
        if image.shape != self.shape or image.dtype != np.uint8:
            raise ValueError(f"an image of {image.shape} {image.dtype} in a spool of {self.shape} uint8")
        self._file.write(np.ascontiguousarray(image).data)
        self.count += 1
        return self.count - 1

    def read(self, number: int, start: int = 0, length: int | None = None) -> bytes:
        """Bytes of one image."""
        self._file.seek(number * self.size + start)
        return self._file.read(self.size - start if length is None else min(length, self.size - start))

    def ordered(self, numbers: Iterable[int]) -> list[int]:
        """`numbers` sorted by their images' raw bytes, looking only at as many bytes as it takes to tell them apart."""
        return list(self._ordered(numbers, 0, 256))

    def _ordered(self, numbers: Iterable[int], start: int, length: int) -> Iterator[int]:
        # Images with equal beginnings (a white margin) are told apart by what follows, a longer piece at a time.
        keys = sorted((self.read(number, start, length), number) for number in numbers)
        for _, group in groupby(keys, key=lambda item: item[0]):
            same = [number for _, number in group]
            if len(same) > 1 and start + length < self.size:
                yield from self._ordered(same, start + length, 4096)
            else:
                yield from same

    def write_split(self, folder: Path, split: str, by_label: Iterable[Iterable[int]]) -> Written:
        """Write `<split>_images.npy` and `<split>_labels.npy`: for each label from 0, the images of these numbers."""
        numbers, labels = array("q"), array("q")
        for label, of_label in enumerate(by_label):
            numbers.extend(of_label)
            labels.extend([label] * (len(numbers) - len(labels)))
        shape = (len(numbers), *self.shape)
        return Written(shape, write_split(folder, split, shape, map(self.read, numbers), np.array(labels)))
