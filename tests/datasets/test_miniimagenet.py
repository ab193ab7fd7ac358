"""miniImageNet from class folders, on a smaller list of classes."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import miniimagenet, sources
from pipeline.datasets.local import VARIABLE
from pipeline.datasets.raw import read_sources
from pipeline.datasets.raw_writer import write_raw
from pipeline.support.errors import UserError
from tests.datasets.test_archives import pack

CLASSES = ("n00000009", "n00000002", "n00000005")  # in the order of lists, which is not that of their names
STEMS = {name: [f"{name}{number:08d}" for number in (3, 10, 20, 31, 200)] for name in CLASSES}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    names = "\n".join(sorted(stem for stems in STEMS.values() for stem in stems))
    monkeypatch.setattr(miniimagenet, "CLASSES", CLASSES)
    monkeypatch.setattr(miniimagenet, "PER_CLASS", 5)
    monkeypatch.setattr(miniimagenet, "NAMES", hashlib.sha256(names.encode()).hexdigest())


def grey(name: str, number: int) -> int:
    """The grey level of an image: the class and the position in it."""
    return 60 * CLASSES.index(name) + 10 * number


def lay(root: Path, size: tuple[int, int] = (84, 84)) -> Path:
    """Class folders as in a public copy: a fifth of each class lies in another folder than the rest."""
    for name in CLASSES:
        for number, stem in enumerate(STEMS[name]):
            path = root / ("val" if number == 1 else "train") / name / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, (grey(name, number),) * 3).save(path)
    (root / "README.md").write_text("what this is", encoding="utf-8")
    return root


def read(folder: Path, source: Path) -> tuple[dict[str, list[tuple[int, int]]], str]:
    """(label, grey level) of the images of each split, and what was read."""
    folder.mkdir()
    _, told = miniimagenet.class_folders(folder, source)
    splits = {}
    for split in ("train", "test"):
        images, labels = np.load(folder / f"{split}_images.npy"), np.load(folder / f"{split}_labels.npy")
        assert images.shape[1:] == (84, 84, 3)
        splits[split] = [(int(label), int(image[0, 0, 0])) for image, label in zip(images, labels, strict=True)]
    return splits, told


@pytest.mark.parametrize("form", ["folder", "archive", "larger"])
def test_class_folders_give_the_tasks_of_the_lists(tmp_path: Path, form: str) -> None:
    source = lay(tmp_path / "mini", (100, 90) if form == "larger" else (84, 84))
    if form == "archive":
        source = pack(source, tmp_path / "mini.tar.gz")
    splits, told = read(tmp_path / "out", source)
    assert splits == {
        "train": [(label, grey(name, number)) for label, name in enumerate(CLASSES) for number in range(4)],
        "test": [(label, grey(name, 4)) for label, name in enumerate(CLASSES)],
    }
    assert told == "class folders, files named as published"


def test_other_file_names_are_told(tmp_path: Path) -> None:
    source = lay(tmp_path / "mini")
    one = source / "train" / CLASSES[0] / f"{STEMS[CLASSES[0]][0]}.png"
    one.rename(one.with_name("z.png"))
    splits, told = read(tmp_path / "out", source)
    assert told == "class folders, files with other names than published"
    assert (0, grey(CLASSES[0], 0)) in splits["test"]  # the last in the order of names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("gone", r"no images of class n00000002; miniImageNet has 3 classes"),
        ("one less", r"4 images of class n00000009, miniImageNet has 5; complete the copy"),
        ("another", r"folder 'n00000001' is no class of miniImageNet; remove it"),
        ("twice", r"train/n00000009/n0000000900000010\.png: its class has an image of that name already|"
         r"val/n00000009/n0000000900000010\.png: its class has an image of that name already"),
        ("no image", r"n0000000900000003\.png: not an image that Pillow can read"),
        ("nothing", r"no class folders of miniImageNet; wanted are n00000009/<image>"),
    ],
)  # fmt: skip
def test_a_copy_that_is_not_whole_is_named(tmp_path: Path, change: str, message: str) -> None:
    source = lay(tmp_path / "mini")
    first = source / "train" / CLASSES[0]
    if change == "gone":
        for part in ("train", "val"):
            (source / part / CLASSES[1]).rename(tmp_path / f"away-{part}")
    elif change == "one less":
        next(first.iterdir()).unlink()
    elif change == "another":
        (source / "train/n00000001").mkdir()
        Image.new("RGB", (84, 84)).save(source / "train/n00000001/a.png")
    elif change == "twice":
        (first / f"{STEMS[CLASSES[0]][1]}.png").write_bytes((first / f"{STEMS[CLASSES[0]][0]}.png").read_bytes())
    elif change == "no image":
        (first / f"{STEMS[CLASSES[0]][0]}.png").write_bytes(b"text")
    else:
        source = tmp_path / "empty"
        source.mkdir()
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=message):
        miniimagenet.class_folders(tmp_path / "out", source)
    assert not list((tmp_path / "out").iterdir())


def test_what_was_read_is_in_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path / "sets" / "miniimagenet")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "sets"))
    out = tmp_path / "raw"
    out.mkdir()
    write_raw(out, ["digits", "miniimagenet"])
    told = read_sources(out)
    assert list(told) == ["miniimagenet"]  # the digits have a sum
    assert told["miniimagenet"].startswith("class folders, files named as published (")
    changed = tmp_path / "sets/miniimagenet/train" / CLASSES[0] / f"{STEMS[CLASSES[0]][0]}.png"
    Image.new("RGB", (84, 84), (255, 0, 0)).save(changed)
    other = tmp_path / "other"
    other.mkdir()
    write_raw(other, ["miniimagenet"])
    assert read_sources(other)["miniimagenet"] != told["miniimagenet"]


def test_letters_are_read_from_class_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for letter in "ABCDEFGHIJ":
        place = tmp_path / "notmnist" / letter
        place.mkdir(parents=True)
        for number in range(10):
            data = io.BytesIO()
            Image.new("L", (28, 28), number).save(data, "PNG")
            (place / f"{number}.png").write_bytes(data.getvalue())
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    out = tmp_path / "out"
    out.mkdir()
    fetched = sources.fetch_into(out, "notmnist")
    assert fetched.source == "class folders, 100 of the 18,724 images"
    assert np.load(out / "test_labels.npy").tolist() == list(range(10))
