"""Readers of the official files of the public datasets.

Most return arrays in the order of the files. Those of large datasets write their splits to disk in canonical order
instead. Each reader takes its files in the order in which `sources.py` lists them; one that writes takes the folder to
write into as its first argument.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pipeline.datasets.archives import members
from pipeline.datasets.images import decode, quiet
from pipeline.datasets.pickles import loads
from pipeline.datasets.spool import Spool, Written
from pipeline.support.errors import UserError

#: Images, (n, height, width[, 3]) uint8, and labels, (n,) int64.
Split = tuple[np.ndarray, np.ndarray]

_MEND = "fetch it again"


def idx(train_images: Path, train_labels: Path, test_images: Path, test_labels: Path) -> dict[str, Split]:
    """Read MNIST or Fashion-MNIST: four IDX files, gzipped or not.

    Returns:
        The splits "train" and "test"; images are (n, height, width).

    Raises:
        UserError: if a file is damaged or not an IDX file of bytes, or there are not as many labels as images.
    """
    splits = {}
    for split, of_images, of_labels in (("train", train_images, train_labels), ("test", test_images, test_labels)):
        images, labels = _idx(of_images, 3), _idx(of_labels, 1)
        if len(images) != len(labels):
            raise UserError(
                f"{of_labels}: {len(labels):,} labels for {len(images):,} images in {of_images.name}; {_MEND}"
            )
        splits[split] = (images, labels.astype(np.int64))
    return splits


def _idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an IDX file of uint8: two zero bytes, type 8, number of dimensions, their sizes (big-endian), the values."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path}: damaged ({error}); {_MEND}") from None
    head = 4 + 4 * dimensions
    if data[:4] != bytes((0, 0, 8, dimensions)) or len(data) < head:
        raise UserError(f"{path}: not an IDX file of {dimensions} dimensions of bytes; {_MEND}")
    shape = tuple(int(size) for size in np.frombuffer(data[4:head], dtype=">u4"))
    values = np.frombuffer(data[head:], dtype=np.uint8)
    if len(values) != int(np.prod(shape)):
        raise UserError(f"{path}: holds {len(values):,} values, its head says {shape}; {_MEND}")
    return values.reshape(shape)


def cifar10(archive: Path) -> dict[str, Split]:
    """Read CIFAR-10 from cifar-10-python.tar.gz, or from the folder unpacked from it.

    Returns:
        The splits "train" and "test"; images are (n, 32, 32, 3).

    Raises:
        UserError: if a file is missing or damaged.
    """
    return _cifar(archive, {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]}, "labels")


def cifar100(archive: Path) -> dict[str, Split]:
    """Read CIFAR-100 from cifar-100-python.tar.gz, or from the folder unpacked from it.

    Returns:
        The splits "train" and "test"; images are (n, 32, 32, 3), labels the 100 fine classes.

    Raises:
        UserError: if a file is missing or damaged.
    """
    return _cifar(archive, {"train": ["train"], "test": ["test"]}, "fine_labels")


def _cifar(archive: Path, files: dict[str, list[str]], key: str) -> dict[str, Split]:
    """Read CIFAR batches: each is a pickled dict of `data`, (n, 3072) uint8, channels first, and a list of labels."""
    wanted = {name for names in files.values() for name in names}
    read: dict[str, Split] = {}
    for member in members(archive):
        name = member.name.rpartition("/")[2]
        if not member.is_folder and name in wanted:
            read[name] = _cifar_batch(loads(member.read(), f"{archive}: {name}"), f"{archive}: {name}", key)
    if missing := sorted(wanted - set(read)):
        raise UserError(f"{archive}: no file {missing[0]}; {_MEND}")
    return {
        split: (np.concatenate([read[name][0] for name in names]), np.concatenate([read[name][1] for name in names]))
        for split, names in files.items()
    }


def _cifar_batch(batch: Any, name: str, key: str) -> Split:
    try:
        data, labels = batch["data"], np.array(batch[key], dtype=np.int64)
        if data.dtype != np.uint8 or data.shape != (len(labels), 3072):
            raise ValueError(f"data of {data.shape} {data.dtype} for {len(labels)} labels")
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{name}: not a CIFAR batch ({error!r}); {_MEND}") from None
    return np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


def svhn(train: Path, test: Path) -> dict[str, Split]:
    """Read the cropped digits of Street View House Numbers: two MATLAB files.

    Returns:
        The splits "train" and "test"; images are (n, 32, 32, 3). The digit 0, published as label 10, gets label 0.

    Raises:
        UserError: if a file is damaged or not one of SVHN.
    """
    return {"train": _svhn(train), "test": _svhn(test)}


def _svhn(path: Path) -> Split:
    from scipy.io import loadmat

    try:
        file = loadmat(path, variable_names=["X", "y"])
        images, labels = file["X"], file["y"].astype(np.int64).reshape(-1)
        if images.dtype != np.uint8 or images.shape != (32, 32, 3, len(labels)):
            raise ValueError(f"X of {images.shape} {images.dtype} for {len(labels)} labels")
    except Exception as error:  # a damaged MATLAB file can raise almost anything
        raise UserError(f"{path}: not an SVHN file ({error}); {_MEND}") from None
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), labels % 10


#: The tables of CUB-200-2011: one line per image, beginning with its number.
_CUB_TABLES = ("images.txt", "image_class_labels.txt", "train_test_split.txt")


def cub(folder: Path, archive: Path, size: int = 224) -> dict[str, Written]:
    """Read Caltech-UCSD Birds-200-2011: 200 classes, with its own train and test split.

    Args:
        folder: An existing folder to write the images and labels into.
        archive: CUB_200_2011.tgz.
        size: Height and width to which every image is resized, as RGB. As in TAG's experiments, proportions are not
            kept.

    Returns:
        The shape and checksum of the splits "train" and "test".

    Raises:
        UserError: if the archive is damaged, lacks a file, or has an image that Pillow cannot read.
    """
    shape = (size, size, 3)
    tables: dict[str, Mapping[str, str]] = {}
    numbers: dict[str, int] = {}
    with Spool(folder / "images.spool", shape) as spool:
        with quiet():
            for member in tqdm(members(archive), desc=archive.name, unit=" files", disable=None):
                top, _, name = member.name.partition("/")
                if member.is_folder or top != "CUB_200_2011":
                    continue
                if name in _CUB_TABLES:
                    tables[name] = _table(member.read(), f"{archive}: {member.name}")
                elif name.startswith("images/"):
                    numbers[name.removeprefix("images/")] = spool.add(
                        decode(member.read(), f"{archive}: {member.name}", shape)
                    )
        if missing := sorted(set(_CUB_TABLES) - set(tables)):
            raise UserError(f"{archive}: no file CUB_200_2011/{missing[0]}; {_MEND}")
        files, labels, trained = (tables[name] for name in _CUB_TABLES)
        splits: dict[str, dict[int, list[int]]] = {"train": {}, "test": {}}
        for key, name in files.items():
            try:
                split = {"1": "train", "0": "test"}[trained[key]]
                splits[split].setdefault(int(labels[key]), []).append(numbers[name])
            except (KeyError, ValueError):
                raise UserError(f"{archive}: image {name} has no file, label or split; {_MEND}") from None
        return _written(folder, spool, {split: [of[label] for label in sorted(of)] for split, of in splits.items()})


def _table(data: bytes, name: str) -> dict[str, str]:
    try:
        return dict(line.split(maxsplit=1) for line in data.decode().splitlines() if line.strip())
    except ValueError:
        raise UserError(f"{name}: not a table of two columns; {_MEND}") from None


def _written(folder: Path, spool: Spool, splits: Mapping[str, Sequence[Sequence[int]]]) -> dict[str, Written]:
    """Write each split class by class, in canonical order."""
    return {
        split: spool.write_split(folder, split, (spool.ordered(of_class) for of_class in classes))
        for split, classes in splits.items()
    }
