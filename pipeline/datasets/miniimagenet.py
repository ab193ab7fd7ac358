"""Reader of miniImageNet's official files, which writes its splits to disk in canonical order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.datasets.pickles import load
from pipeline.datasets.spool import Spool, Written
from pipeline.support.errors import UserError

#: The share of each class, taken from the front in the order of the pickles, that is for training (TAG's experiments).
TRAIN = 0.8


def pickles(folder: Path, train: Path, test: Path, val: Path) -> dict[str, Written]:
    """Read miniImageNet: 100 classes of 600 images, 84x84 RGB.

    As in TAG's experiments, the three pickles are joined in the order of the arguments. Each is a pickled dict:
    `image_data`, (n, 84, 84, 3) uint8, and `class_dict`, which lists for each class the positions of its images. The
    pickles' own split (whole classes, for few-shot learning) is not used: the first 80 % of each class are for
    training.

    Args:
        folder: An existing folder to write the images and labels into.
        train: mini-imagenet-cache-train.pkl.
        test: mini-imagenet-cache-test.pkl.
        val: mini-imagenet-cache-val.pkl.

    Returns:
        The shape and checksum of the splits "train" and "test".

    Raises:
        UserError: if a file is damaged or not a pickle of miniImageNet.
    """
    shape = (84, 84, 3)
    splits: dict[str, list[list[int]]] = {"train": [], "test": []}
    with Spool(folder / "images.spool", shape) as spool:
        for path in (train, test, val):
            images, classes = _pickle(path, shape)
            for of_class in tqdm(classes, desc=path.name, unit=" classes", disable=None, leave=False):
                numbers = [spool.add(images[number]) for number in of_class]
                cut = int(TRAIN * len(numbers))
                splits["train"].append(numbers[:cut])
                splits["test"].append(numbers[cut:])
            del images
        return {
            split: spool.write_split(folder, split, (spool.ordered(of_class) for of_class in classes))
            for split, classes in splits.items()
        }


def _pickle(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, list[list[int]]]:
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
        raise UserError(f"{path}: not a pickle of miniImageNet ({error!r}); fetch it again") from None
    return images, classes
