"""uint8 images in .npy files, written piece by piece and read only as far as asked, so that memory stays flat."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.support.errors import UserError


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


def read_split(
    folder: Path, split: str, shape: tuple[int, ...], sha256: str, fix: str
) -> tuple[StoredImages, np.ndarray]:
    """`<split>_images.npy`, not read yet, and `<split>_labels.npy`. Raises UserError for a missing or damaged file, also
    where only its checksum tells."""
    path = folder / f"{split}_images.npy"
    images = mapped(path, shape, np.uint8, fix)
    labels = np.array(mapped(folder / f"{split}_labels.npy", shape[:1], np.int64, fix))
    check_sum(images, labels, sha256, fix)
    return StoredImages(path, shape), labels


def mapped(path: Path, shape: tuple[int, ...], dtype: type[np.generic], fix: str) -> np.memmap:
    """A .npy file as a memory map.

    Args:
        path: The file.
        shape: That it must have.
        dtype: That it must have.
        fix: What a person can do about it; the end of the error's line.

    Raises:
        UserError: It is missing, damaged, or of another shape or dtype.
    """
    array = loaded(path, dtype, fix)
    if array.shape != shape:
        raise UserError(f"{path}: has shape {array.shape}, its manifest says {shape}; {fix}")
    return array


def loaded(
    path: Path, dtype: type[np.generic], fix: str, fits: Callable[[tuple[int, ...]], bool] = lambda shape: True
) -> np.memmap:
    """A .npy file as a memory map, of this dtype in the order of C. fits: whether its shape is right. Raises UserError."""
    try:
        # Not np.load, which also opens archives and, from its own header, arrays of any dtype.
        array = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise UserError(f"{path}: missing; {fix}") from None
    except OSError as error:
        if error.filename is not None:
            raise
        raise UserError(f"{path}: truncated or damaged ({error}); {fix}") from None
    except Exception as error:  # a damaged header fails in many ways
        raise UserError(f"{path}: truncated or damaged ({' '.join(str(error).split())[:200]}); {fix}") from None
    if array.dtype != dtype or not array.dtype.isnative or not array.flags.c_contiguous:
        raise UserError(f"{path}: holds {array.dtype.str}, not {np.dtype(dtype).str} in the order of C; {fix}")
    if not fits(array.shape):
        raise UserError(f"{path}: has a shape that its manifest does not know, {array.shape}; {fix}")
    return array


#: Bytes of a file that are in memory at once.
_PIECE = 1 << 20


def check_sum(images: np.memmap, labels: np.ndarray, sha256: str, fix: str) -> None:
    """UserError where the images and labels of a split are not those of its manifest.

    The file of the images is read, not mapped: pages of a map count as the process's own memory.
    """
    path, left = Path(str(images.filename)), images.nbytes
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(images.offset)
        while left and (piece := file.read(min(left, _PIECE))):
            digest.update(piece)
            left -= len(piece)
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    if digest.hexdigest() != sha256:
        raise UserError(f"{path}: its images or labels are not those of its manifest (the checksum differs); {fix}")


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
