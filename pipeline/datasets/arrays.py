"""Store uint8 images and their labels in .npy files.

Images are written in pieces and only those asked for are read, so memory use does not grow with the dataset.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.support.errors import UserError


class Images(Protocol):
    """Images in memory or on disk. Indexing with an array of n positions copies those images."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, height, width) for grey images, (n, height, width, 3) for RGB."""

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray: ...


#: The images of a split and their labels, (n,) int64.
Split = tuple[Images, np.ndarray]


@dataclass(frozen=True)
class StoredImages:
    """Images in a .npy file.

    Every access maps the file anew, because the pages of a memory map count as the process's own memory for as long as
    the map is open.

    Attributes:
        path: The .npy file.
        shape: (n, height, width[, 3]).
    """

    path: Path
    shape: tuple[int, ...]

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        copied: np.ndarray = np.load(self.path, mmap_mode="r", allow_pickle=False)[numbers]
        return copied


def read_split(
    folder: Path, split: str, shape: tuple[int, ...], sha256: str, fix: str
) -> tuple[StoredImages, np.ndarray]:
    """Verify a stored split and open it.

    Args:
        folder: The folder with `<split>_images.npy` and `<split>_labels.npy`.
        split: "train" or "test".
        shape: Expected shape of the images, (n, height, width[, 3]).
        sha256: Expected checksum, as `write_split` returns it.
        fix: What the user can do about a bad file; ends the error message.

    Returns:
        The images, which stay on disk, and the labels, (n,) int64.

    Raises:
        UserError: if a file is missing, damaged, of another shape or dtype, or does not match the checksum.
    """
    path = folder / f"{split}_images.npy"
    images = mapped(path, shape, np.uint8, fix)
    labels = np.array(mapped(folder / f"{split}_labels.npy", shape[:1], np.int64, fix))
    check_sum(images, labels, sha256, fix)
    return StoredImages(path, shape), labels


def mapped(path: Path, shape: tuple[int, ...], dtype: type[np.generic], fix: str) -> np.memmap:
    """Open a .npy file as a memory map, requiring an exact shape.

    Args:
        path: The file.
        shape: The shape it must have.
        dtype: The dtype it must have.
        fix: What the user can do about a bad file; ends the error message.

    Returns:
        The array as a read-only memory map.

    Raises:
        UserError: if the file is missing, damaged, or of another shape or dtype.
    """
    array = loaded(path, dtype, fix)
    if array.shape != shape:
        raise UserError(f"{path}: has shape {array.shape}, its manifest says {shape}; {fix}")
    return array


def loaded(
    path: Path, dtype: type[np.generic], fix: str, fits: Callable[[tuple[int, ...]], bool] = lambda shape: True
) -> np.memmap:
    """Open a .npy file as a memory map.

    Args:
        path: The file.
        dtype: The dtype it must have, in native byte order and C-contiguous.
        fix: What the user can do about a bad file; ends the error message.
        fits: Whether a shape is acceptable; by default every shape is.

    Returns:
        The array as a read-only memory map.

    Raises:
        UserError: if the file is missing, damaged, of another dtype or memory order, or of a shape that `fits` rejects.
    """
    try:
        # Not np.load, which would also accept an .npz archive.
        array = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise UserError(f"{path}: missing; {fix}") from None
    except OSError as error:
        if error.filename is not None:
            raise
        raise UserError(f"{path}: truncated or damaged ({error}); {fix}") from None
    except Exception as error:  # a damaged header can raise almost anything
        raise UserError(f"{path}: truncated or damaged ({' '.join(str(error).split())[:200]}); {fix}") from None
    if array.dtype != dtype or not array.dtype.isnative or not array.flags.c_contiguous:
        raise UserError(f"{path}: holds {array.dtype.str}, not {np.dtype(dtype).str} in C order; {fix}")
    if not fits(array.shape):
        raise UserError(f"{path}: has a shape that its manifest does not know, {array.shape}; {fix}")
    return array


#: Bytes of a file that are held in memory at a time.
_PIECE = 1 << 20


def check_sum(images: np.memmap, labels: np.ndarray, sha256: str, fix: str) -> None:
    """Verify the checksum of a split's images and labels.

    The image file is read rather than mapped, because the pages of a map count as the process's own memory.

    Args:
        images: The images as a memory map, of which only the file name, offset and size are used.
        labels: (n,) labels.
        sha256: The expected checksum, as `write_split` returns it.
        fix: What the user can do about a mismatch; ends the error message.

    Raises:
        UserError: if the checksum differs.
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
    """Write `<split>_images.npy` and `<split>_labels.npy` into a folder.

    Args:
        folder: An existing folder.
        split: "train" or "test".
        shape: The shape of all images, (n, height, width[, 3]).
        pieces: The bytes of the images in C order, cut anywhere.
        labels: (n,) labels, stored as int64.

    Returns:
        The sha256, in hexadecimal, of the images' bytes followed by the labels as little-endian int64.
    """
    sha256 = hashlib.sha256()
    with (folder / f"{split}_images.npy").open("wb") as file:
        # The same header as np.save writes.
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for piece in pieces:
            sha256.update(piece)
            file.write(piece)
    sha256.update(np.ascontiguousarray(labels, dtype="<i8").data)
    np.save(folder / f"{split}_labels.npy", labels.astype(np.int64))
    return sha256.hexdigest()


def sha256_of_arrays(images: np.ndarray, labels: np.ndarray) -> str:
    """The sha256, in hexadecimal, of the images' bytes followed by the labels as little-endian int64."""
    digest = hashlib.sha256(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return digest.hexdigest()
