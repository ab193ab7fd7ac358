"""uint8 images in .npy files, written piece by piece and read only as far as asked, so that memory stays flat."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.errors import UserError


class Images(Protocol):
    """Images that are in memory or not: shape (n, height, width[, 3]); indexed with an array of numbers they are copied."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, height, width[, 3])."""

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray: ...


Split = tuple[Images, np.ndarray]


@dataclass(frozen=True)
class StoredImages:
    """A .npy file. Each look maps it anew: pages of a map count as the process's own memory for as long as it is open."""

    path: Path
    shape: tuple[int, ...]

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        copied: np.ndarray = np.load(self.path, mmap_mode="r", allow_pickle=False)[numbers]
        return copied


def read_split(folder: Path, split: str, shape: tuple[int, ...], mend: str) -> tuple[StoredImages, np.ndarray]:
    """`<split>_images.npy`, not read yet, and `<split>_labels.npy`. Raises UserError for a missing or damaged file."""
    path = folder / f"{split}_images.npy"
    mapped(path, shape, mend)
    return StoredImages(path, shape), np.array(mapped(folder / f"{split}_labels.npy", shape[:1], mend))


def mapped(path: Path, shape: tuple[int, ...], mend: str) -> np.ndarray:
    """A .npy file as a memory map. Raises UserError with `mend` where it is missing, damaged or not of this shape."""
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; {mend}") from None
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: truncated or damaged ({error}); {mend}") from None
    if array.shape != shape:
        raise UserError(f"{path}: has shape {array.shape}, its manifest says {shape}; {mend}")
    return array


def write_split(
    folder: Path, split: str, shape: tuple[int, ...], pieces: Iterable[bytes | memoryview], labels: np.ndarray
) -> str:
    """Write `<split>_images.npy` of `shape` from its bytes, and `<split>_labels.npy` as int64.

    Gives the sha256 of the images' bytes followed by the labels as little-endian int64.
    """
    sha256 = hashlib.sha256()
    with (folder / f"{split}_images.npy").open("wb") as file:
        # The header that np.save would write.
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for piece in pieces:
            sha256.update(piece)
            file.write(piece)
    sha256.update(np.ascontiguousarray(labels, dtype="<i8").data)
    np.save(folder / f"{split}_labels.npy", labels.astype(np.int64))
    return sha256.hexdigest()


def sha256_of_arrays(images: np.ndarray, labels: np.ndarray) -> str:
    """sha256 of the images' bytes followed by the labels as little-endian int64."""
    digest = hashlib.sha256(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return digest.hexdigest()
