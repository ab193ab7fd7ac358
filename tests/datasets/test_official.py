from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pipeline.datasets import miniimagenet, official
from pipeline.support.errors import UserError
from tests.datasets.test_archives import pack

GENERATOR = np.random.default_rng(0)


def write_idx(path: Path, values: np.ndarray) -> Path:
    data = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_give_their_arrays(tmp_path: Path, suffix: str) -> None:
    images, labels = GENERATOR.integers(0, 256, (5, 4, 3), np.uint8), np.arange(5, dtype=np.uint8)
    image_file = write_idx(tmp_path / f"images{suffix}", images)
    label_file = write_idx(tmp_path / f"labels{suffix}", labels)
    for found_images, found_labels in official.idx(image_file, label_file, image_file, label_file).values():
        assert np.array_equal(found_images, images)
        assert np.array_equal(found_labels, labels)


def test_a_damaged_idx_file_is_named(tmp_path: Path) -> None:
    labels = write_idx(tmp_path / "labels", np.arange(5, dtype=np.uint8))
    with pytest.raises(UserError, match="labels: not an IDX file of 3 dimensions"):
        official.idx(labels, labels, labels, labels)
    images = write_idx(tmp_path / "images", np.zeros((5, 4, 3), np.uint8))
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"images: holds 59 values, its head says \(5, 4, 3\)"):
        official.idx(images, labels, images, labels)
    cut = write_idx(tmp_path / "images.gz", GENERATOR.integers(0, 256, (5, 40, 30), np.uint8))
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"images\.gz: damaged"):
        official.idx(cut, labels, cut, labels)


def test_a_label_file_of_other_images_is_named(tmp_path: Path) -> None:
    images = write_idx(tmp_path / "images", np.zeros((5, 4, 3), np.uint8))
    labels = write_idx(tmp_path / "labels", np.arange(5, dtype=np.uint8))
    fewer = write_idx(tmp_path / "fewer", np.arange(3, dtype=np.uint8))
    with pytest.raises(UserError, match="fewer: 3 labels for 5 images in images"):
        official.idx(images, fewer, images, labels)
    with pytest.raises(UserError, match="fewer: 3 labels for 5 images in images"):
        official.idx(images, labels, images, fewer)


def cifar(tmp_path: Path, names: list[str], key: str) -> tuple[Path, np.ndarray]:
    """An archive as CIFAR's authors lay it, with ten images a file; the images, channels last."""
    images = GENERATOR.integers(0, 256, (len(names), 10, 32, 32, 3), np.uint8)
    folder = tmp_path / "cifar-python"
    folder.mkdir()
    for name, of_file in zip(names, images, strict=True):
        batch = {"data": of_file.transpose(0, 3, 1, 2).reshape(10, 3072), key: list(range(10)), "filenames": ["x"] * 10}
        (folder / name).write_bytes(pickle.dumps(batch, 2))
    (folder / "readme.html").write_bytes(b"<html>")
    with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    return tmp_path / "cifar.tar.gz", images


def test_cifar10_is_read_from_its_archive_and_from_the_folder_unpacked(tmp_path: Path) -> None:
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    archive, images = cifar(tmp_path, names, "labels")
    for form in (archive, tmp_path / "cifar-python"):
        splits = official.cifar10(form)
        assert np.array_equal(splits["train"][0], images[:5].reshape(50, 32, 32, 3))
        assert np.array_equal(splits["test"][0], images[5])
        assert splits["train"][1].tolist() == list(range(10)) * 5


def test_cifar100_is_read_by_its_fine_labels(tmp_path: Path) -> None:
    archive, images = cifar(tmp_path, ["train", "test"], "fine_labels")
    splits = official.cifar100(archive)
    assert np.array_equal(splits["train"][0], images[0])
    assert splits["test"][1].tolist() == list(range(10))


def test_a_cifar_archive_of_another_kind_is_told(tmp_path: Path) -> None:
    archive, _ = cifar(tmp_path, ["train", "test"], "coarse_labels")
    with pytest.raises(
        UserError, match=r"cifar\.tar\.gz: (train|test): not a CIFAR batch \(KeyError\('fine_labels'\)\)"
    ):
        official.cifar100(archive)
    with pytest.raises(UserError, match=r"cifar\.tar\.gz: no file data_batch_1"):
        official.cifar10(archive)


def test_svhn_is_read_and_its_label_10_is_the_digit_0(tmp_path: Path) -> None:
    images = GENERATOR.integers(0, 256, (7, 32, 32, 3), np.uint8)
    published = np.array([10, 1, 9, 10, 2, 10, 3], np.uint8)
    train, test = tmp_path / "train_32x32.mat", tmp_path / "test_32x32.mat"
    for path, part in ((train, slice(4)), (test, slice(4, 7))):
        savemat(path, {"X": images[part].transpose(1, 2, 3, 0), "y": published[part, None]})
    splits = official.svhn(train, test)
    assert np.array_equal(splits["train"][0], images[:4])
    assert splits["train"][1].tolist() == [0, 1, 9, 0]
    assert np.array_equal(splits["test"][0], images[4:])
    assert splits["test"][1].tolist() == [2, 0, 3]
    train.write_bytes(train.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"train_32x32\.mat: not an SVHN file"):
        official.svhn(train, test)


# --- miniImageNet


def mini_file(path: Path, classes: int, protocol: int = 2, changes: dict[str, object] | None = None) -> np.ndarray:
    """A pickle as miniImageNet's, its classes one after another in the images, but not as they are named; the images."""
    images = GENERATOR.integers(0, 256, (classes * 5, 84, 84, 3), np.uint8)
    numbers = {f"n{1000 - n}": [5 * n + at for at in (3, 0, 4, 2, 1)] for n in reversed(range(classes))}
    held: dict[str, object] = {"image_data": images, "class_dict": numbers}
    held |= changes or {}
    path.write_bytes(pickle.dumps(held, protocol))
    return images


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A miniImageNet of parts of three, two and one classes of five images."""
    monkeypatch.setattr(miniimagenet, "PARTS", (3, 2, 1))
    monkeypatch.setattr(miniimagenet, "PER_CLASS", 5)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_miniimagenet_joins_train_test_val_and_trains_on_the_first_four_fifths(tmp_path: Path, protocol: int) -> None:
    paths = [tmp_path / name for name in ("train", "test", "val")]
    images = [mini_file(path, classes, protocol=protocol) for path, classes in zip(paths, (3, 2, 1), strict=True)]
    out = tmp_path / "out"
    out.mkdir()
    written = miniimagenet.pickles(out, *paths)
    assert [written[split].shape[0] for split in ("train", "test")] == [24, 6]
    of_class = np.concatenate(images).reshape(6, 5, 84, 84, 3)
    for split, wanted in (("train", of_class[:, :4]), ("test", of_class[:, 4:])):
        found, labels = np.load(out / f"{split}_images.npy"), np.load(out / f"{split}_labels.npy")
        for label in range(6):
            assert {image.tobytes() for image in found[labels == label]} == {i.tobytes() for i in wanted[label]}


def test_the_classes_of_miniimagenet_are_those_of_the_lists_in_their_order() -> None:
    """The sum is that of the three lists as they are published, the class of each line, each once."""
    assert miniimagenet.PARTS == (64, 20, 16)
    assert miniimagenet.PER_CLASS == 600
    joined = " ".join(miniimagenet.CLASSES)
    assert (
        hashlib.sha256(joined.encode()).hexdigest()
        == "036d29b90e05a9b17fdb44bef16720642fd0362bc0f0a09ce40ccb2e030d9459"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"image_data": np.zeros((5, 32, 32, 3), np.uint8)},
        {"image_data": np.zeros((5, 84, 84, 3), np.float32)},
        {"image_data": "none"},
        {"class_dict": {"a": [0, 1, 2, 3, 3]}},
        {"class_dict": {"a": [0, 1]}},
        {"class_dict": [1]},
        {"class_dict": {"a": ["x"]}},
    ],
)
def test_a_pickle_that_is_not_of_miniimagenet_is_named(tmp_path: Path, changes: dict[str, object]) -> None:
    mini_file(tmp_path / "mini.pkl", 1, changes=changes)
    with pytest.raises(UserError, match=r"mini\.pkl: not a pickle of miniImageNet"):
        miniimagenet.pickles(tmp_path, *[tmp_path / "mini.pkl"] * 3)
    assert not (tmp_path / "images.spool").exists()


@pytest.mark.usefixtures("few")
def test_pickles_of_miniimagenet_under_each_others_names_are_refused(tmp_path: Path) -> None:
    """Their classes would be numbered otherwise, and so lie in other tasks."""
    train, test, val = (tmp_path / name for name in ("train", "test", "val"))
    for path, classes in ((train, 3), (test, 1), (val, 2)):
        mini_file(path, classes)
    with pytest.raises(UserError, match="test: 1 classes and 5 images, that part of miniImageNet has 2 classes of 5"):
        miniimagenet.pickles(tmp_path, train, test, val)


def test_a_pickle_of_a_part_of_miniimagenet_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(miniimagenet, "PARTS", (2, 2, 2))
    mini_file(tmp_path / "mini.pkl", 2)
    with pytest.raises(UserError, match=r"mini\.pkl: 2 classes and 10 images, that part .* has 2 classes of 600"):
        miniimagenet.pickles(tmp_path, *[tmp_path / "mini.pkl"] * 3)


def test_a_pickle_of_miniimagenet_that_would_run_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mini.pkl").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(UserError, match=r"mini\.pkl: .*os\.system.*refused"):
        miniimagenet.pickles(tmp_path, *[tmp_path / "mini.pkl"] * 3)


# --- CUB-200-2011


def cub_folder(root: Path, sizes: dict[str, tuple[int, ...]]) -> Path:
    """As CUB-200-2011 is laid, with one image of each size: the first half of the names for training."""
    folder = root / "laid" / "CUB_200_2011"
    for number, (name, size) in enumerate(sizes.items()):
        place = folder / "images" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(size, 10 * number, np.uint8)).save(place)
    names = enumerate(sizes, start=1)
    tables = [(number, name, int(name[:3]), int(number % 2)) for number, name in names]
    (folder / "images.txt").write_text("".join(f"{n} {name}\n" for n, name, _, _ in tables), encoding="utf-8")
    (folder / "image_class_labels.txt").write_text("".join(f"{n} {c}\n" for n, _, c, _ in tables), encoding="utf-8")
    (folder / "train_test_split.txt").write_text("".join(f"{n} {t}\n" for n, _, _, t in tables), encoding="utf-8")
    (folder / "README").write_text("birds", encoding="utf-8")
    (folder / "attributes").mkdir()
    (folder / "attributes" / "images.txt").write_text("not the table", encoding="utf-8")
    (folder.parent / "attributes.txt").write_text("1 has_bill", encoding="utf-8")
    return folder


BIRDS = {
    "001.Auk/a.png": (9, 7, 3), "001.Auk/b.png": (6, 6), "002.Owl/c.png": (4, 8, 3), "002.Owl/d.png": (5, 5, 3),
}  # fmt: skip


def test_cub_takes_its_own_split_and_one_size(tmp_path: Path) -> None:
    archive = pack(cub_folder(tmp_path, BIRDS).parent, tmp_path / "CUB_200_2011.tgz")
    out = tmp_path / "out"
    out.mkdir()
    written = official.cub(out, archive, size=6)
    assert written["train"].shape == written["test"].shape == (2, 6, 6, 3)
    assert np.load(out / "train_images.npy")[:, 0, 0, 0].tolist() == [0, 20]
    assert np.load(out / "test_images.npy")[:, 0, 0, 0].tolist() == [10, 30]
    for split in ("train", "test"):
        assert np.load(out / f"{split}_labels.npy").tolist() == [0, 1]


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("images.txt", None, "no file CUB_200_2011/images.txt"),
        ("images.txt", "1\n", "CUB_200_2011/images.txt: not a table"),
        ("images.txt", "1 001.Auk/none.png\n", "image 001.Auk/none.png has no file, label or split"),
        ("train_test_split.txt", "1 2\n", "image 001.Auk/a.png has no file, label or split"),
        ("image_class_labels.txt", "1 auk\n", "image 001.Auk/a.png has no file, label or split"),
        ("images/001.Auk/a.png", "no image", "images/001.Auk/a.png: not an image"),
    ],
)
def test_a_damaged_copy_of_cub_is_named(tmp_path: Path, file: str, text: str | None, told: str) -> None:
    folder = cub_folder(tmp_path, BIRDS)
    (folder / file).unlink()
    if text is not None:
        (folder / file).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=told):
        official.cub(tmp_path, pack(folder.parent, tmp_path / "cub.tgz"), size=6)
    assert not (tmp_path / "images.spool").exists()
