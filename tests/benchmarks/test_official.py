from __future__ import annotations

import gzip
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from pipeline.benchmarks import official
from pipeline.errors import UserError

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
    images = GENERATOR.integers(0, 256, (4, 32, 32, 3), np.uint8)
    path = tmp_path / "train_32x32.mat"
    savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": np.array([[10], [1], [9], [10]], np.uint8)})
    found, labels = official.svhn(path, path)["train"]
    assert np.array_equal(found, images)
    assert labels.tolist() == [0, 1, 9, 0]
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"train_32x32\.mat: not a file of SVHN"):
        official.svhn(path, path)
