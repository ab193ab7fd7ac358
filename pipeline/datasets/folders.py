"""Class folders: a dataset with one folder of images per class, as a folder, .tar, .tar.gz or .zip.

    train/<class>/<image>  test/<class>/<image>     with train and test splits
    <class>/<image>                                 without: a seeded fraction of each class becomes the test split

Either layout may lie below a single top folder. Labels number the classes in alphabetical order, from 0. Images are
written to a temporary file as they are read, then sorted class by class and written in canonical order, so memory use
does not grow with the dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.datasets.archives import Member, members
from pipeline.datasets.images import decode, quiet
from pipeline.datasets.naming import SPLITS, listed
from pipeline.datasets.spool import Spool, Written
from pipeline.support.errors import UserError

LAYOUT = "wanted are train/<class>/<image> and test/<class>/<image>"
LAYOUT_OF_ONE = "wanted is <class>/<image>"
#: What file managers, file systems and Python leave behind; it is ignored.
_LITTER = (
    "Thumbs.db", "desktop.ini", "__MACOSX", "lost+found", "System Volume Information", "$RECYCLE.BIN", "__pycache__",
)  # fmt: skip

#: Endings of files that are certainly images.
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

#: {split: {class: positions of its images in the temporary file}}
_Numbers = dict[str, dict[str, list[int]]]


@dataclass(frozen=True)
class ClassFolder:
    """Where a dataset of class folders lies and how to read it.

    Attributes:
        path: A folder or an archive.
        shape: (height, width) for grey images, (height, width, 3) for RGB; all images are resized to it.
        test_fraction: The share of each class that becomes the test split: at least one image, and never all. None if
            the folder has train/ and test/.
        seed: Seed for drawing the test split from each class's images in canonical order.
        broken: Names of files, without their folders, that are known not to be images and are skipped.
    """

    path: Path
    shape: tuple[int, ...]
    test_fraction: float | None = None
    seed: int = 0
    broken: frozenset[str] = frozenset()


@dataclass(frozen=True)
class WrittenFolder:
    """A dataset of class folders that was read and written.

    Attributes:
        splits: The shape and checksum of the splits "train" and "test".
        classes: The names of the classes; the place of a name is its label.
        shared: Class -> how many of its test images are among the training images of any class, too: the same in every
            pixel, once brought to the shape of the dataset. Classes without any are left out.
    """

    splits: Mapping[str, Written]
    classes: tuple[str, ...]
    shared: Mapping[str, int]


def write_class_folder(source: ClassFolder, folder: Path, look_for_shared: bool = False) -> WrittenFolder:
    """Write the train and test splits of a dataset of class folders in canonical order.

    Args:
        source: The dataset.
        folder: An existing folder to write the images and labels into.
        look_for_shared: Whether to look for test images that are training images, too, which reads all images once more.

    Raises:
        UserError: if the layout is neither of the two, a class is empty or in one split only, there are fewer than two
            classes, Pillow cannot read an image, or one lies in a folder beside train/ and test/. The message names it;
            where Pillow cannot read several, it names the first ones and tells how many there are.
    """
    with Spool(folder / "images.spool", source.shape) as spool:
        numbers = _read(source, spool)
        ordered = {
            split: {name: spool.ordered(of_class) for name, of_class in sorted(classes.items())}
            for split, classes in numbers.items()
        }
        if source.test_fraction is not None:
            ordered = _drawn(source, ordered["all"])
        shared = _shared(spool, ordered["train"], ordered["test"]) if look_for_shared else {}
        splits = {split: spool.write_split(folder, split, ordered[split].values()) for split in SPLITS}
        return WrittenFolder(splits, tuple(ordered["train"]), shared)


def _shared(spool: Spool, train: Mapping[str, list[int]], test: Mapping[str, list[int]]) -> dict[str, int]:
    """Count the test images of each class that are training images, too, of whatever class."""
    found = set(spool.shared(chain.from_iterable(test.values()), chain.from_iterable(train.values())))
    counts = {name: len(found.intersection(numbers)) for name, numbers in test.items()}
    return {name: count for name, count in counts.items() if count}


def _read(source: ClassFolder, spool: Spool) -> _Numbers:
    """Copy every image into the temporary file."""
    names = ("train", "test") if source.test_fraction is None else ("all",)
    numbers: _Numbers = {split: {} for split in names}
    tops: dict[str, str] = {}
    folders: set[str] = set()
    unplaced: dict[str, str] = {}
    unreadable: dict[str, str] = {}  # no exceptions, which would keep the bytes of the files
    with quiet():
        for member in tqdm(members(source.path), desc=source.path.name, unit=" files", disable=None):
            place = _place(source, member)
            if member.is_folder and place is None and _shown(member):
                folders.add("/".join(_shown(member)))
            if place is None:
                *within, name = _shown(member) or [""]
                if not member.is_folder and name.lower().endswith(_IMAGES):
                    unplaced.setdefault("/".join(within), member.name)
                continue
            top, split, name = place
            tops.setdefault(top, member.name)
            if len(tops) > 1:
                raise UserError(f"{source.path}: {_two_tops(source, tops)}")
            of_class = numbers[split].setdefault(name, [])
            if not member.is_folder and member.name.rpartition("/")[2] not in source.broken:
                try:
                    of_class.append(spool.add(decode(member.read(), f"{source.path}: {member.name}", source.shape)))
                except UserError as error:  # the others are read all the same, so that all can be fixed at once
                    unreadable[member.name] = str(error)
    if unreadable:
        first, *others = unreadable
        raise UserError(unreadable[first] + (f"; nor can these be read: {listed(others)}" if others else ""))
    if source.test_fraction is not None and tops:
        # A bare folder might be a top folder or a class, which only the others' files tell.
        (top,) = tops
        holding = {folder.rpartition("/")[0] for folder in folders}
        beside = {folder.rpartition("/")[2] for folder in folders - holding if folder.rpartition("/")[0] == top}
        for name in beside - set(numbers["all"]) - {"train", "test"}:
            numbers["all"][name] = []
    elif tops:
        _nothing_lost(source, next(iter(tops)), unplaced)
    _check(source, numbers)
    return numbers


def _two_tops(source: ClassFolder, tops: Mapping[str, str]) -> str:
    """What is wrong where classes lie in two places, or one below the other; `tops`: folder of classes -> a file there."""
    (one, file), (other, another) = sorted(tops.items())[:2]
    if source.test_fraction is not None and {"train", "test"} & set(tops):
        return (
            f"has a folder '{other}/' of classes; leave out test_fraction in benchmarks.yaml, or join train/ and test/"
        )
    return f"classes in '{one or '.'}' ({file}) and in '{other}' ({another}); keep one of them"


def _shown(member: Member) -> list[str]:
    """The folders and the name of a member; none if it is hidden, or left behind by a file manager."""
    parts = [part for part in member.name.split("/") if part not in (".", "")]
    return [] if any(part.startswith(".") or part in _LITTER for part in parts) else parts


def _place(source: ClassFolder, member: Member) -> tuple[str, str, str] | None:
    """The (top folder or "", split or "all", class) of a member, or None if it does not belong to the layout.

    Files beside the class folders (a README, a list of classes) are ignored. Raises UserError for a member in a
    subfolder of a class.
    """
    parts = _shown(member)
    if not parts:
        return None
    folders = parts if member.is_folder else parts[:-1]
    if source.test_fraction is None:
        at = next((at for at, part in enumerate(folders[:2]) if part in ("train", "test")), None)
        if at is None or len(folders) < at + 2:
            return None
        top, split, below = folders[:at], folders[at], folders[at + 1 :]
    else:
        if member.is_folder or not folders:
            return None
        top, split, below = folders[:-1][:1], "all", folders[1:] or folders
    if len(below) > 1:
        raise UserError(f"{source.path}: {member.name}: is in a subfolder of a class; {_layout(source)}")
    return "/".join(top), split, below[0]


def _nothing_lost(source: ClassFolder, top: str, unplaced: Mapping[str, str]) -> None:
    """Raise UserError for an image that belongs to no class folder of train/ or test/, such as one in val/<class>/.

    Pictures of a README, beside train/ and test/ or in a folder there, are nobody's.

    Args:
        source: The dataset.
        top: The folder that has train/ and test/; "" if there is none.
        unplaced: Folder -> an image in it, of those without a place.
    """
    above = len(top.split("/")) if top else 0
    for folder, name in unplaced.items():
        below = folder.split("/")[above:] if folder == top or folder.startswith(f"{top}/" if top else "") else []
        inside = bool(below) and below[0] in ("train", "test")
        if inside or len(below) > 1:
            what = "in no class folder" if inside else "neither in train/ nor in test/"
            raise UserError(f"{source.path}: {name}: an image that is {what}; move or remove it")


def _layout(source: ClassFolder) -> str:
    return LAYOUT if source.test_fraction is None else LAYOUT_OF_ONE


def _check(source: ClassFolder, numbers: _Numbers) -> None:
    for split, classes in numbers.items():
        where = f"{source.path}: " + ("" if split == "all" else f"{split}/")
        for name, of_class in sorted(classes.items()):
            if not of_class:
                raise UserError(f"{where}{name}: an empty class; add images or remove the folder")
            if split == "all" and len(of_class) < 2:
                raise UserError(f"{where}{name}: one image cannot be split into train and test; add images")
    if not any(numbers.values()):
        raise UserError(f"{source.path}: no class folders; {_layout(source)}")
    every = set().union(*numbers.values())
    for split, classes in numbers.items():
        if missing := sorted(every - set(classes)):
            fix = "; a folder without test images needs a test fraction" if split == "test" and not classes else ""
            raise UserError(f"{source.path}: class '{missing[0]}' has no {split} images; {LAYOUT}{fix}")
    if len(every) < 2:
        raise UserError(f"{source.path}: one class only ('{every.pop()}'); a classifier needs two or more")


def _drawn(source: ClassFolder, classes: Mapping[str, list[int]]) -> dict[str, dict[str, list[int]]]:
    """Split each class into train and test, keeping canonical order.

    The draw starts from canonical order, so every form of a dataset (folder, tar, zip) gives the same split.
    """
    splits: dict[str, dict[str, list[int]]] = {"train": {}, "test": {}}
    for label, (name, numbers) in enumerate(classes.items()):
        count = min(max(1, round(len(numbers) * (source.test_fraction or 0.0))), len(numbers) - 1)
        out = set(np.random.default_rng([source.seed, label]).permutation(len(numbers))[:count].tolist())
        splits["train"][name] = [number for at, number in enumerate(numbers) if at not in out]
        splits["test"][name] = [number for at, number in enumerate(numbers) if at in out]
    return splits
