"""The official files of the public datasets -> arrays. Each reader takes its files in the order of `sources.py`."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.benchmarks.archives import members
from pipeline.benchmarks.pickles import loads
from pipeline.errors import UserError

Split = tuple[np.ndarray, np.ndarray]

_MEND = "fetch it again"


def idx(train_images: Path, train_labels: Path, test_images: Path, test_labels: Path) -> dict[str, Split]:
    """MNIST and its kin: four IDX files, gzipped or not."""
    return {
        "train": (_idx(train_images, 3), _idx(train_labels, 1).astype(np.int64)),
        "test": (_idx(test_images, 3), _idx(test_labels, 1).astype(np.int64)),
    }


def _idx(path: Path, dimensions: int) -> np.ndarray:
    """An IDX file of uint8: two zero bytes, the type 8, the number of dimensions, their sizes (big-endian), the values."""
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
    """cifar-10-python.tar.gz, or the folder unpacked from it."""
    return _cifar(archive, {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]}, "labels")


def cifar100(archive: Path) -> dict[str, Split]:
    """cifar-100-python.tar.gz, or the folder unpacked from it; labels are the 100 fine classes."""
    return _cifar(archive, {"train": ["train"], "test": ["test"]}, "fine_labels")


def _cifar(archive: Path, files: dict[str, list[str]], key: str) -> dict[str, Split]:
    """Each file is a pickled dict: `data` (n, 3072) uint8, channels first, and a list of labels."""
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
    """Street View House Numbers, cropped: two MATLAB files. The digit 0 is published as label 10."""
    return {"train": _svhn(train), "test": _svhn(test)}


def _svhn(path: Path) -> Split:
    from scipy.io import loadmat

    try:
        file = loadmat(path, variable_names=["X", "y"])
        images, labels = file["X"], file["y"].astype(np.int64).reshape(-1)
        if images.dtype != np.uint8 or images.shape != (32, 32, 3, len(labels)):
            raise ValueError(f"X of {images.shape} {images.dtype} for {len(labels)} labels")
    except Exception as error:  # a damaged MATLAB file fails in many ways
        raise UserError(f"{path}: not a file of SVHN ({error}); {_MEND}") from None
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), labels % 10
