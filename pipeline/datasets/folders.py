"""Class folders: a dataset whose folder names are its labels, as a folder, .tar, .tar.gz or .zip.

    train/<class>/<image>  test/<class>/<image>     with a split of its own
    <class>/<image>                                 without: a seeded fraction of each class becomes the test split

Either may lie below one top folder. Labels are the classes in alphabetical order. Images go to disk as they come, are then
sorted class by class and written in canonical order: memory stays flat, whatever the dataset's size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.datasets.archives import Member, members
from pipeline.datasets.images import decode, quiet
from pipeline.datasets.spool import Spool, Written
from pipeline.support.errors import UserError

LAYOUT = "wanted are train/<class>/<image> and test/<class>/<image>"
LAYOUT_OF_ONE = "wanted is <class>/<image>"
#: What file managers leave behind.
_LITTER = ("Thumbs.db", "desktop.ini", "__MACOSX")

#: {split: {class: numbers of its images in the spool}}
_Numbers = dict[str, dict[str, list[int]]]


@dataclass(frozen=True)
class ClassFolder:
    """path: a folder or an archive. shape: (height, width) for grey, (height, width, 3) for RGB; images are resized to it.

    test_fraction: None where the folder has train/ and test/; otherwise the share of each class, at least one image, that
    becomes the test split, drawn with `seed` from the class's images in canonical order. broken: names of files, without
    their folders, that are known to be no images and are left out.
    """

    path: Path
    shape: tuple[int, ...]
    test_fraction: float | None = None
    seed: int = 0
    broken: frozenset[str] = frozenset()


def write_class_folder(source: ClassFolder, folder: Path) -> dict[str, Written]:
    """Write train and test images and labels into `folder`, in canonical order.

    Raises UserError for what is no such layout, a class that is empty or only in one split, fewer than two classes, and an
    image that Pillow cannot read, by its name.
    """
    with Spool(folder / "images.spool", source.shape) as spool:
        numbers = _read(source, spool)
        ordered = {
            split: {name: spool.ordered(of_class) for name, of_class in sorted(classes.items())}
            for split, classes in numbers.items()
        }
        if source.test_fraction is not None:
            ordered = _drawn(source, ordered["all"])
        return {split: spool.write_split(folder, split, ordered[split].values()) for split in ("train", "test")}


def _read(source: ClassFolder, spool: Spool) -> _Numbers:
    """Bring every image into the spool."""
    names = ("train", "test") if source.test_fraction is None else ("all",)
    numbers: _Numbers = {split: {} for split in names}
    tops: set[str] = set()
    with quiet():
        for member in tqdm(members(source.path), desc=source.path.name, unit=" files", disable=None):
            place = _place(source, member)
            if place is None:
                continue
            top, split, name = place
            tops.add(top)
            if len(tops) > 1:
                one, other = sorted(tops)[:2]
                raise UserError(f"{source.path}: classes in '{one or '.'}' and in '{other}'; keep one of them")
            of_class = numbers[split].setdefault(name, [])
            if not member.is_folder and member.name.rpartition("/")[2] not in source.broken:
                of_class.append(spool.add(decode(member.read(), f"{source.path}: {member.name}", source.shape)))
    _check(source, numbers)
    return numbers


def _place(source: ClassFolder, member: Member) -> tuple[str, str, str] | None:
    """(top folder or "", split or "all", class) of a member, None where it is none of the layout's.

    A file beside the class folders (a README, a list of classes) is not looked at. Raises UserError for one that lies deeper
    than images do.
    """
    parts = [part for part in member.name.split("/") if part != "."]
    if any(part.startswith(".") or part in _LITTER for part in parts):
        return None
    folders = parts if member.is_folder else parts[:-1]
    if source.test_fraction is None:
        at = next((at for at, part in enumerate(folders[:2]) if part in ("train", "test")), None)
        if at is None or len(folders) < at + 2:
            return None
        top, split, below = folders[:at], folders[at], folders[at + 1 :]
    else:
        # A bare folder cannot be told from a top folder: classes are known by their images, and an empty one goes unseen.
        if member.is_folder or not folders:
            return None
        top, split, below = folders[:-1][:1], "all", folders[1:] or folders
    if len(below) > 1:
        raise UserError(f"{source.path}: {member.name}: lies deeper than a class; {_layout(source)}")
    return "/".join(top), split, below[0]


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
    """Train and test numbers of each class, still in canonical order: the same images whatever form they came in."""
    splits: dict[str, dict[str, list[int]]] = {"train": {}, "test": {}}
    for label, (name, numbers) in enumerate(classes.items()):
        count = min(max(1, round(len(numbers) * (source.test_fraction or 0.0))), len(numbers) - 1)
        out = set(np.random.default_rng([source.seed, label]).permutation(len(numbers))[:count].tolist())
        splits["train"][name] = [number for at, number in enumerate(numbers) if at not in out]
        splits["test"][name] = [number for at, number in enumerate(numbers) if at in out]
    return splits
