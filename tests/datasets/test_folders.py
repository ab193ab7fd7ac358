from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.arrays import sha256_of_arrays
from pipeline.datasets.folders import ClassFolder, write_class_folder
from pipeline.datasets.raw_writer import write_splits
from pipeline.datasets.sources import canonical_order
from pipeline.datasets.spool import Spool, Written
from pipeline.support.errors import UserError
from tests.datasets.test_archives import pack

SHAPE = (4, 3, 3)


def png(value: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(value).save(file, "PNG")
    return file.getvalue()


def images(*shape: int, seed: int = 0) -> np.ndarray:
    # Few values and a blank beginning, so that many images begin with the same bytes and some are equal.
    drawn = np.random.default_rng(seed).integers(0, 2, shape, dtype=np.uint8)
    drawn[:, :3] = 0
    return drawn


def lay(folder: Path, splits: dict[str, dict[str, np.ndarray]]) -> Path:
    for split, classes in splits.items():
        for name, values in classes.items():
            place = folder / split / name
            place.mkdir(parents=True)
            for number, value in enumerate(values):
                (place / f"{number:03d}.png").write_bytes(png(value))
    return folder


@pytest.fixture
def splits() -> dict[str, dict[str, np.ndarray]]:
    return {
        "train": {"owl": images(9, *SHAPE), "auk": images(20, *SHAPE, seed=1), "Emu": images(3, *SHAPE, seed=2)},
        "test": {"auk": images(2, *SHAPE, seed=3), "owl": images(4, *SHAPE, seed=4), "Emu": images(1, *SHAPE, seed=5)},
    }


def files_of(out: Path, splits: Mapping[str, tuple[np.ndarray, np.ndarray] | Written]) -> dict[str, object]:
    """What is written of the splits, with the entries of the manifest."""
    entries = write_splits(out, splits)
    return {path.name: path.read_bytes() for path in out.iterdir()} | entries


def written(source: ClassFolder, out: Path) -> dict[str, object]:
    out.mkdir()
    return files_of(out, write_class_folder(source, out).splits)


def test_every_form_gives_the_same_bytes_as_the_arrays_themselves(
    tmp_path: Path, splits: dict[str, dict[str, np.ndarray]]
) -> None:
    wanted = {}
    for split, classes in splits.items():
        all_images = np.concatenate([classes[name] for name in sorted(classes)])
        labels = np.repeat(np.arange(3), [len(classes[name]) for name in sorted(classes)])
        order = canonical_order(all_images, labels)
        wanted[split] = (all_images[order], labels[order])
    (tmp_path / "wanted").mkdir()
    expected = files_of(tmp_path / "wanted", wanted)

    folder = lay(tmp_path / "plain", splits)
    lay(tmp_path / "nested" / "birds", splits)
    (tmp_path / "nested" / "birds" / "README.md").write_text("no image", encoding="utf-8")
    (tmp_path / "nested" / "birds" / "train" / "owl" / ".DS_Store").write_bytes(b"litter")
    forms = [folder, tmp_path / "nested"]
    forms += [pack(folder, tmp_path / f"birds{suffix}") for suffix in (".tar", ".tar.gz", ".zip")]
    forms += [pack(tmp_path / "nested", tmp_path / f"nested{suffix}") for suffix in (".tar", ".zip")]
    for number, form in enumerate(forms):
        assert written(ClassFolder(form, SHAPE), tmp_path / f"out{number}") == expected, form
    for split, (found, labels) in wanted.items():
        assert np.array_equal(np.load(tmp_path / "out0" / f"{split}_images.npy"), found)
        assert np.array_equal(np.load(tmp_path / "out0" / f"{split}_labels.npy"), labels)


def test_one_folder_is_split_alike_in_every_form_and_by_its_seed(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (30, 4, 3), dtype=np.uint8)
    classes = {"a": values[:20], "b": values[20:28], "c": values[28:]}
    plain = lay(tmp_path / "plain", {"": classes})
    turned = lay(tmp_path / "other" / "top", {"": {name: of_class[::-1] for name, of_class in classes.items()}})
    first = written(ClassFolder(plain, (4, 3), 0.25), tmp_path / "first")
    packed = pack(turned.parent, tmp_path / "other.zip")
    assert written(ClassFolder(packed, (4, 3), 0.25), tmp_path / "second") == first
    assert written(ClassFolder(plain, (4, 3), 0.25, seed=1), tmp_path / "third") != first
    labels = {split: np.load(tmp_path / "first" / f"{split}_labels.npy") for split in ("train", "test")}
    assert np.bincount(labels["test"]).tolist() == [5, 2, 1]
    assert np.bincount(labels["train"]).tolist() == [15, 6, 1]
    together = {image.tobytes() for split in labels for image in np.load(tmp_path / "first" / f"{split}_images.npy")}
    assert together == {value.tobytes() for value in values}


def test_an_image_that_is_no_image_is_named_and_no_spool_is_left(
    tmp_path: Path, splits: dict[str, dict[str, np.ndarray]]
) -> None:
    folder = lay(tmp_path / "birds", splits)
    (folder / "train" / "owl" / "notes.txt").write_text("owls hoot", encoding="utf-8")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=r"birds\.tar: train/owl/notes\.txt: not an image"):
        write_class_folder(ClassFolder(pack(folder, tmp_path / "birds.tar"), SHAPE), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_of_several_files_that_are_no_images_the_first_are_named_and_all_counted(
    tmp_path: Path, splits: dict[str, dict[str, np.ndarray]]
) -> None:
    folder = lay(tmp_path / "birds", splits)
    for number in range(8):
        (folder / "test" / "owl" / f"bad{number}.png").write_bytes(b"")
    with pytest.raises(UserError) as caught:
        write_class_folder(ClassFolder(folder, SHAPE), tmp_path)
    others = ", ".join(f"test/owl/bad{number}.png" for number in range(1, 6))
    assert "test/owl/bad0.png: not an image that Pillow can read; fix or remove it" in str(caught.value)
    assert str(caught.value).endswith(f"; nor can these be read: {others} and 2 more")


def test_test_images_that_are_training_images_are_counted(tmp_path: Path) -> None:
    values = np.arange(12 * 36, dtype=np.uint8).reshape(12, *SHAPE) // 2
    splits = {"train": {"auk": values[:5], "owl": values[5:8]}, "test": {"auk": values[8:10], "owl": values[10:]}}
    apart = ClassFolder(lay(tmp_path / "apart", splits), SHAPE)
    assert write_class_folder(apart, tmp_path, look_for_shared=True).shared == {}
    splits["test"]["owl"] = values[[0, 7, 11, 7]]  # one of them of the other class, one twice
    shared = ClassFolder(lay(tmp_path / "shared", splits), SHAPE)
    assert write_class_folder(shared, tmp_path, look_for_shared=True).shared == {"owl": 3}
    assert write_class_folder(shared, tmp_path).shared == {}  # nobody asked


def test_copies_in_one_pool_are_counted_where_they_are_drawn_into_both_splits(tmp_path: Path) -> None:
    values = np.arange(12 * 36, dtype=np.uint8).reshape(12, *SHAPE) // 2
    pool = lay(tmp_path / "pool", {".": {"auk": values[:6].repeat(2, axis=0), "owl": values[6:]}})
    found = write_class_folder(ClassFolder(pool, SHAPE, test_fraction=0.25), tmp_path, look_for_shared=True)
    train, test = (np.load(tmp_path / f"{split}_images.npy") for split in ("train", "test"))
    held = {image.tobytes() for image in train}
    assert sum(found.shared.values()) == sum(image.tobytes() in held for image in test) > 0
    assert set(found.shared) == {"auk"}


def test_classes_keep_their_names_in_the_order_of_their_labels(
    tmp_path: Path, splits: dict[str, dict[str, np.ndarray]]
) -> None:
    assert write_class_folder(ClassFolder(lay(tmp_path / "a", splits), SHAPE), tmp_path).classes == (
        "Emu",
        "auk",
        "owl",
    )


@pytest.mark.parametrize("form", ["folder", "tar", "zip"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_class_is_named(
    tmp_path: Path, splits: dict[str, dict[str, np.ndarray]], form: str, split: str
) -> None:
    folder = lay(tmp_path / "birds", splits)
    (folder / split / "kea").mkdir()
    path = folder if form == "folder" else pack(folder, tmp_path / f"birds.{form}")
    with pytest.raises(UserError, match=f"{split}/kea: an empty class"):
        write_class_folder(ClassFolder(path, SHAPE), tmp_path)


@pytest.mark.parametrize("form", ["folder", "tar", "zip"])
@pytest.mark.parametrize("top", ["", "photos"])
def test_an_empty_class_without_splits_is_named(tmp_path: Path, form: str, top: str) -> None:
    folder = lay(tmp_path / "birds" / top, {"": {name: images(3, *SHAPE) for name in ("owl", "auk")}})
    (folder / "kea").mkdir()
    for name in (".cache", "lost+found", "train", "notes/drafts"):  # none of them a class without images
        (folder / name).mkdir(parents=True)
    path = tmp_path / "birds"
    packed = path if form == "folder" else pack(path, tmp_path / f"birds.{form}")
    with pytest.raises(UserError, match="kea: an empty class; add images or remove the folder"):
        write_class_folder(ClassFolder(packed, SHAPE, 0.5), tmp_path)


def test_one_class_is_refused(tmp_path: Path) -> None:
    folder = lay(tmp_path / "birds", {split: {"owl": images(3, *SHAPE)} for split in ("train", "test")})
    with pytest.raises(UserError, match=r"one class only \('owl'\)"):
        write_class_folder(ClassFolder(folder, SHAPE), tmp_path)


def test_a_class_of_one_split_only_is_named(tmp_path: Path, splits: dict[str, dict[str, np.ndarray]]) -> None:
    del splits["test"]["auk"]
    with pytest.raises(UserError, match="class 'auk' has no test images"):
        write_class_folder(ClassFolder(lay(tmp_path / "birds", splits), SHAPE), tmp_path)


def test_images_beside_train_and_test_are_not_left_out(
    tmp_path: Path, splits: dict[str, dict[str, np.ndarray]]
) -> None:
    folder = lay(tmp_path / "birds", splits)
    (folder / "samples").mkdir()
    (folder / "samples" / "all.png").write_bytes(b"of the README")
    for place in ("notes/old/list.txt", "val/owl/.hidden.png"):
        (folder / place).parent.mkdir(parents=True)
        (folder / place).write_text("no image", encoding="utf-8")
    (tmp_path / "out").mkdir()
    write_class_folder(ClassFolder(folder, SHAPE), tmp_path / "out")
    (tmp_path / "out" / "images.spool").unlink(missing_ok=True)
    nested = pack_below(folder, tmp_path / "nested", "birds")  # the same below a top folder
    write_class_folder(ClassFolder(nested, SHAPE), tmp_path / "out")
    image = png(splits["train"]["owl"][0])
    for place, told in (("val/owl/1.JPG", "neither in train/ nor in test/"), ("train/1.png", "in no class folder")):
        (folder / place).write_bytes(image)
        for form in (folder, pack_below(folder, tmp_path / "nested", "birds")):
            with pytest.raises(UserError, match=f"{place}: an image that is {told}"):
                write_class_folder(ClassFolder(form, SHAPE), tmp_path / "out")
        (folder / place).unlink()


def pack_below(folder: Path, place: Path, top: str) -> Path:
    """An archive in which the folder lies below a top folder."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place / top)
    return pack(place, place.with_suffix(".tar"))


def test_equal_images_of_many_pixels_are_sorted(tmp_path: Path) -> None:
    """Each look at longer pieces is a call of a function, of which Python allows a thousand."""
    with Spool(tmp_path / "images", (1500, 1500, 3)) as spool:
        image = np.zeros(spool.shape, np.uint8)
        numbers = [spool.add(image), spool.add(image)]
        image[-1, -1, -1] = 1
        numbers = [spool.add(image), *numbers]
        assert spool.ordered(numbers) == [0, 1, 2]


def test_a_folder_without_test_images_is_told_of_the_fraction(
    tmp_path: Path, splits: dict[str, dict[str, np.ndarray]]
) -> None:
    del splits["test"]
    with pytest.raises(UserError, match="needs a test fraction"):
        write_class_folder(ClassFolder(lay(tmp_path / "birds", splits), SHAPE), tmp_path)


def test_a_class_of_one_image_cannot_be_split(tmp_path: Path) -> None:
    folder = lay(tmp_path / "birds", {"": {"owl": images(3, *SHAPE), "auk": images(1, *SHAPE)}})
    with pytest.raises(UserError, match="auk: one image cannot be split"):
        write_class_folder(ClassFolder(folder, SHAPE, 0.5), tmp_path)


def test_no_class_folders_and_two_top_folders_are_told(
    tmp_path: Path, splits: dict[str, dict[str, np.ndarray]]
) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="none: no class folders; wanted are train/<class>"):
        write_class_folder(ClassFolder(tmp_path / "none", SHAPE), tmp_path)
    lay(tmp_path / "two" / "a", splits)
    lay(tmp_path / "two" / "b", splits)
    with pytest.raises(UserError, match=r"classes in 'a' \(a/.*\) and in 'b' \(b/.*\); keep one of them"):
        write_class_folder(ClassFolder(tmp_path / "two", SHAPE), tmp_path)


def test_a_test_folder_beside_a_test_fraction_is_no_reason_to_remove_either(
    tmp_path: Path, splits: dict[str, dict[str, np.ndarray]]
) -> None:
    with pytest.raises(UserError, match=r"has a folder 'train/' of classes; leave out test_fraction"):
        write_class_folder(ClassFolder(lay(tmp_path / "birds", splits), SHAPE, 0.2), tmp_path)


@pytest.mark.parametrize("fraction", [None, 0.5])
def test_images_deeper_than_their_class_are_told(tmp_path: Path, fraction: float | None) -> None:
    folder = lay(tmp_path / "birds", {"top/train/owl": {"young": images(2, *SHAPE)}})
    with pytest.raises(UserError, match=r"top/train/owl/young.*: is in a subfolder of a class; wanted"):
        write_class_folder(ClassFolder(folder, SHAPE, fraction), tmp_path)


def test_the_spool_orders_long_images_by_all_their_bytes(tmp_path: Path) -> None:
    values = np.zeros((12, 100, 100), np.uint8)
    for number, (place, value) in enumerate([(0, 9), (255, 1), (256, 1), (4351, 2), (4352, 1), (9999, 1), (9999, 200)]):
        values[number].reshape(-1)[place] = value
    with Spool(tmp_path / "spool", (100, 100)) as spool:
        for image in values:
            spool.add(image)
        found = spool.write_split(tmp_path, "train", [spool.ordered(range(12))])
    order = canonical_order(values, np.zeros(12))
    assert np.array_equal(np.load(tmp_path / "train_images.npy"), values[order])
    assert found.sha256 == sha256_of_arrays(values[order], np.zeros(12))
    assert sorted(value.tobytes() for value in values) == [value.tobytes() for value in values[order]]
