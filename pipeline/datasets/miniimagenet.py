"""Readers of miniImageNet: 100 classes of 600 images, 84x84 RGB, from the official pickles or from class folders.

Both write their splits to disk in canonical order. The dataset's own split (whole classes, for few-shot learning) is not
used. As in TAG's experiments its parts are joined, those for training, for testing and for validation, and of each class
the first 80 % are for training.

The pickles were made from Ravi and Larochelle's lists (ICLR 2017), line after line, and the lists are in alphabetical
order: of the classes within a part, and of the files within a class. So class folders whose files have the names of the
lists give the same classes in the same order. Whether the names stand for the same photographs is another matter: copies
that go around differ in it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from pipeline.datasets.archives import members
from pipeline.datasets.images import decode, quiet
from pipeline.datasets.pickles import load
from pipeline.datasets.spool import Spool, Written
from pipeline.support.errors import UserError

#: Shape of an image.
SHAPE = (84, 84, 3)
#: The share of each class, taken from the front, that is for training (TAG's experiments).
TRAIN = 0.8
#: Images of each class.
PER_CLASS = 600
#: The classes, as WordNet numbers, in the order of the labels: the 64 of the list for training, the 20 of the list for
#: testing, the 16 of the list for validation.
_LISTS = """
    n01532829 n01558993 n01704323 n01749939 n01770081 n01843383 n01910747 n02074367 n02089867 n02091831 n02101006
    n02105505 n02108089 n02108551 n02108915 n02111277 n02113712 n02120079 n02165456 n02457408 n02606052 n02687172
    n02747177 n02795169 n02823428 n02966193 n03017168 n03047690 n03062245 n03207743 n03220513 n03337140 n03347037
    n03400231 n03476684 n03527444 n03676483 n03838899 n03854065 n03888605 n03908618 n03924679 n03998194 n04067472
    n04243546 n04251144 n04258138 n04275548 n04296562 n04389033 n04435653 n04443257 n04509417 n04515003 n04596742
    n04604644 n04612504 n06794110 n07584110 n07697537 n07747607 n09246464 n13054560 n13133613
    n01930112 n01981276 n02099601 n02110063 n02110341 n02116738 n02129165 n02219486 n02443484 n02871525 n03127925
    n03146219 n03272010 n03544143 n03775546 n04146614 n04149813 n04418357 n04522168 n07613480
    n01855672 n02091244 n02114548 n02138441 n02174001 n02950826 n02971356 n02981792 n03075370 n03417042 n03535780
    n03584254 n03770439 n03773504 n03980874 n09256479
"""
CLASSES = tuple(_LISTS.split())
#: How many of them the parts have: those for training, for testing and for validation.
PARTS = (64, 20, 16)
#: A WordNet number. Files in other folders, such as lists of the images, are ignored.
_CLASS = re.compile("n[0-9]{8}")
#: SHA-256 of the 60,000 file names of the lists, without their endings, sorted and joined by newlines.
NAMES = "4b057b24f44339bdaefdbb5455f6031bd676a794a027a5d46ff6e6ec58b4d0d5"


def pickles(folder: Path, train: Path, test: Path, val: Path) -> dict[str, Written]:
    """Read the official pickles.

    Each is a dict: `image_data`, (n, 84, 84, 3) uint8, and `class_dict`, which lists for each class the positions of
    its images. They are joined in the order of the arguments, the classes of each in the order of their images.

    Args:
        folder: An existing folder to write the images and labels into.
        train: mini-imagenet-cache-train.pkl.
        test: mini-imagenet-cache-test.pkl.
        val: mini-imagenet-cache-val.pkl.

    Returns:
        The shape and checksum of the splits "train" and "test".

    Raises:
        UserError: if a file is damaged, not a pickle of miniImageNet, or not that part of it.
    """
    with Spool(folder / "images.spool", SHAPE) as spool:
        numbers = []
        for path, count in zip((train, test, val), PARTS, strict=True):
            images, classes = _pickle(path, SHAPE, count)
            for of_class in tqdm(classes, desc=path.name, unit=" classes", disable=None, leave=False):
                numbers.append([spool.add(images[number]) for number in of_class])
            del images
        return _write(spool, folder, numbers)


def class_folders(folder: Path, source: Path) -> tuple[dict[str, Written], str]:
    """Read class folders: one for each class, named by its WordNet number, as in n01532829/n0153282900000005.jpg.

    They may lie in other folders, such as train/ and val/, and are then joined. The images of a class are taken in the
    order of their names. Those of another size than 84x84 are resized without keeping their proportions.

    Args:
        folder: An existing folder to write the images and labels into.
        source: A folder or an archive.

    Returns:
        The shape and checksum of the splits "train" and "test", and what was read, in words.

    Raises:
        UserError: if a class or an image is missing, there is another class, a name stands twice in a class, or Pillow
            cannot read an image. The message names the culprit.
    """
    found: dict[str, dict[str, int]] = {}
    with Spool(folder / "images.spool", SHAPE) as spool:
        with quiet():
            for member in tqdm(members(source), desc=source.name, unit=" files", disable=None):
                path = PurePosixPath(member.name)
                name = path.parent.name
                if member.is_folder or not _CLASS.fullmatch(name) or path.name.startswith("."):
                    continue
                of_class = found.setdefault(name, {})
                if path.stem in of_class:
                    raise UserError(f"{source}: {member.name}: its class has an image of that name already; remove one")
                if name in CLASSES:
                    of_class[path.stem] = spool.add(decode(member.read(), f"{source}: {member.name}", SHAPE))
        _check(source, found)
        splits = _write(spool, folder, [[found[name][stem] for stem in sorted(found[name])] for name in CLASSES])
    names = "\n".join(sorted(stem for of_class in found.values() for stem in of_class))
    same = hashlib.sha256(names.encode()).hexdigest() == NAMES
    return splits, "class folders, " + ("files named as published" if same else "files with other names than published")


def _check(source: Path, found: dict[str, dict[str, int]]) -> None:
    wanted = set(CLASSES)
    if not wanted & set(found):
        raise UserError(f"{source}: no class folders of miniImageNet; wanted are {CLASSES[0]}/<image> and so on")
    if other := sorted(set(found) - wanted):
        raise UserError(f"{source}: folder '{other[0]}' is no class of miniImageNet; remove it")
    if missing := sorted(wanted - set(found)):
        raise UserError(f"{source}: no images of class {missing[0]}; miniImageNet has {len(CLASSES)} classes, add them")
    for name, of_class in found.items():
        if len(of_class) != PER_CLASS:
            raise UserError(
                f"{source}: {len(of_class)} images of class {name}, miniImageNet has {PER_CLASS}; complete the copy"
            )


def _write(spool: Spool, folder: Path, classes: Sequence[Sequence[int]]) -> dict[str, Written]:
    """Split each class and write both splits in canonical order."""
    cuts = [int(TRAIN * len(of_class)) for of_class in classes]
    splits = {
        "train": [of_class[:cut] for of_class, cut in zip(classes, cuts, strict=True)],
        "test": [of_class[cut:] for of_class, cut in zip(classes, cuts, strict=True)],
    }
    return {
        split: spool.write_split(folder, split, (spool.ordered(of_class) for of_class in chosen))
        for split, chosen in splits.items()
    }


def _pickle(path: Path, shape: tuple[int, ...], count: int) -> tuple[np.ndarray, list[list[int]]]:
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
    if {len(of_class) for of_class in classes} != {PER_CLASS} or len(classes) != count:
        raise UserError(
            f"{path}: {len(classes)} classes and {len(images):,} images, that part of miniImageNet has {count} classes of "
            f"{PER_CLASS}; fetch it again, under its own name"
        )
    return images, classes
