"""Sort images on disk: they are stored in a temporary file as they arrive, then written again in canonical order.

Memory use therefore does not grow with the dataset. The file is read and written plainly, not through a memory map,
because the pages of a map count as the process's own memory once they are touched.
"""

from __future__ import annotations

import hashlib
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
    """Description of a split that is already on disk.

    Attributes:
        shape: Shape of the images, (n, height, width[, 3]).
        sha256: Checksum, in hexadecimal, of the images' bytes followed by the labels as little-endian int64.
    """

    shape: tuple[int, ...]
    sha256: str


class Spool:
    """A temporary file of uint8 images of one shape, numbered from 0 in the order in which they were added.

    Use it in a `with` block, which deletes the file at its end. Add all images before reading the first.

    Args:
        path: The file, which is overwritten.
        shape: Shape of one image.
    """

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
        """Append an image.

        Returns:
            Its number.

        Raises:
            ValueError: if the image is not uint8 or of another shape.
        """
        if image.shape != self.shape or image.dtype != np.uint8:
            raise ValueError(f"an image of {image.shape} {image.dtype} in a spool of {self.shape} uint8")
        self._file.write(np.ascontiguousarray(image).data)
        self.count += 1
        return self.count - 1

    def read(self, number: int, start: int = 0, length: int | None = None) -> bytes:
        """Read the bytes of one image: `length` bytes from byte `start` on, or all that follow if `length` is None."""
        self._file.seek(number * self.size + start)
        return self._file.read(self.size - start if length is None else min(length, self.size - start))

    def ordered(self, numbers: Iterable[int]) -> list[int]:
        """Sort numbers by the raw bytes of their images, reading only as many bytes as it takes to tell them apart."""
        return list(self._ordered(numbers, 0, 256))

    def _ordered(self, numbers: Iterable[int], start: int, length: int) -> Iterator[int]:
        # Images that begin alike (a white margin) are compared by what follows, in longer and longer pieces.
        keys = sorted((self.read(number, start, length), number) for number in numbers)
        for _, group in groupby(keys, key=lambda item: item[0]):
            same = [number for _, number in group]
            if len(same) > 1 and start + length < self.size:
                yield from self._ordered(same, start + length, max(4096, 2 * length))
            else:
                yield from same

    def shared(self, some: Iterable[int], others: Iterable[int]) -> list[int]:
        """Find the images among `some` that have the same bytes as one among `others`; reads all of them once more."""
        places: dict[bytes, list[int]] = {}
        for number in some:
            places.setdefault(self._digest(number), []).append(number)
        found = {digest for digest in map(self._digest, others) if digest in places}
        return sorted(number for digest in found for number in places[digest])

    def _digest(self, number: int) -> bytes:
        return hashlib.blake2b(self.read(number), digest_size=16).digest()

    def write_split(self, folder: Path, split: str, by_label: Iterable[Iterable[int]]) -> Written:
        """Write a split as `<split>_images.npy` and `<split>_labels.npy`.

        Args:
            folder: An existing folder.
            split: "train" or "test".
            by_label: For each label from 0, the numbers of its images in the order in which they are to be written.
        """
        numbers, labels = array("q"), array("q")
        for label, of_label in enumerate(by_label):
            numbers.extend(of_label)
            labels.extend([label] * (len(numbers) - len(labels)))
        shape = (len(numbers), *self.shape)
        return Written(shape, write_split(folder, split, shape, map(self.read, numbers), np.array(labels)))
