"""The official files of the public datasets -> arrays, or, where those would be large, files in canonical order.

Each reader takes its files in the order of `sources.py`; one that writes takes first the folder to write into.
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
from pipeline.datasets.pickles import load, loads
from pipeline.datasets.spool import Spool, Written
from pipeline.support.errors import UserError

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


#: Images of each class in the pickles' own order: the first of them are for training (TAG's experiments).
MINIIMAGENET_TRAIN = 0.8


def miniimagenet(folder: Path, train: Path, test: Path, val: Path) -> dict[str, Written]:
    """miniImageNet's three pickles joined in this order, as in TAG's experiments: 100 classes of 600 images, 84x84 RGB.

    Each file is a pickled dict: `image_data` (n, 84, 84, 3) uint8, and `class_dict`, for each class the numbers of its
    images. The pickles' own split (few-shot learning: whole classes) is not used: the first 80 % of each class are for
    training.
    """
    shape = (84, 84, 3)
    splits: dict[str, list[list[int]]] = {"train": [], "test": []}
    with Spool(folder / "images.spool", shape) as spool:
        for path in (train, test, val):
            images, classes = _miniimagenet(path, shape)
            for of_class in tqdm(classes, desc=path.name, unit=" classes", disable=None, leave=False):
                numbers = [spool.add(images[number]) for number in of_class]
                cut = int(MINIIMAGENET_TRAIN * len(numbers))
                splits["train"].append(numbers[:cut])
                splits["test"].append(numbers[cut:])
            del images
        return _written(folder, spool, splits)


def _miniimagenet(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, list[list[int]]]:
    with path.open("rb") as file:
        held = load(file, str(path))
    try:
        images = held["image_data"]
        classes = sorted((sorted(map(int, numbers)) for numbers in held["class_dict"].values()), key=lambda of: of[0])
        if images.dtype != np.uint8 or images.shape[1:] != shape:
            raise ValueError(f"image_data of {images.shape} {images.dtype}")
        if sorted(number for of_class in classes for number in of_class) != list(range(len(images))):
            raise ValueError("class_dict does not name each image once")
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a pickle of miniImageNet ({error!r}); {_MEND}") from None
    return images, classes


#: The tables of CUB-200-2011: a line an image, its number first.
_CUB_TABLES = ("images.txt", "image_class_labels.txt", "train_test_split.txt")


def cub(folder: Path, archive: Path, size: int = 224) -> dict[str, Written]:
    """Caltech-UCSD Birds-200-2011: 200 classes, its own split, every image brought to size x size RGB.

    As in TAG's experiments the proportions are not kept.
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
    """Write each split, class by class, in canonical order."""
    return {
        split: spool.write_split(folder, split, (spool.ordered(of_class) for of_class in classes))
        for split, classes in splits.items()
    }
