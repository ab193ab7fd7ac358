from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from pipeline.config.data import Folder, PublicDataset
from pipeline.datasets import download, local, official, sources
from pipeline.datasets.arrays import sha256_of_arrays
from pipeline.datasets.naming import SPLITS, name_of
from pipeline.datasets.raw import read_classes, read_sources
from pipeline.datasets.raw_writer import write_raw
from pipeline.datasets.spool import Written
from pipeline.support.errors import UserError
from pipeline.support.files import digest
from tests.datasets.test_archives import pack
from tests.datasets.test_folders import lay
from tests.datasets.test_official import write_idx

#: A dataset of the tests alone.
TINY: Any = "tiny"
REAL = os.environ.get(local.VARIABLE)


def tiny_splits() -> dict[str, sources.Split]:
    """Twenty images a split, of three classes, in canonical order."""
    generator = np.random.default_rng(0)
    splits = {}
    for split in SPLITS:
        images, labels = generator.integers(0, 256, (20, 4, 3), np.uint8), np.arange(20) % 3
        order = sources.canonical_order(images, labels)
        splits[split] = (images[order], labels[order])
    return splits


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset `tiny`, made as MNIST is, without a network; gives the folder of TAG_DATASETS, still empty."""
    sums = {split: sha256_of_arrays(*found) for split, found in tiny_splits().items()}
    files = sources._idx_files("TINY", "tiny", ("http://127.0.0.1:9/",), "a", "b", "c", "d")
    monkeypatch.setitem(sources.SOURCES, "tiny", sources.Source(sources._in_memory(official.idx), sums, files, (4, 3)))
    monkeypatch.setattr(download, "PAUSES", ())
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "datasets"
    folder.mkdir()
    monkeypatch.setenv(local.VARIABLE, str(folder))
    return folder


def lay_official(folder: Path, splits: dict[str, sources.Split], suffix: str = ".gz") -> None:
    folder.mkdir(parents=True)
    for split, stem in (("train", "train"), ("test", "t10k")):
        images, labels = splits[split]
        shuffle = np.random.default_rng(1).permutation(len(images))
        write_idx(folder / f"{stem}-images-idx3-ubyte{suffix}", images[shuffle])
        write_idx(folder / f"{stem}-labels-idx1-ubyte{suffix}", labels[shuffle].astype(np.uint8))


def raw_bytes(out: Path) -> dict[str, bytes]:
    out.mkdir()
    write_raw(out, [TINY])
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_official_files_and_class_folders_give_the_same_raw_files(tiny: Path, tmp_path: Path) -> None:
    splits = tiny_splits()
    by_class = {
        split: {str(label): images[labels == label] for label in range(3)} for split, (images, labels) in splits.items()
    }
    folder = lay(tmp_path / "laid", by_class)
    found = []
    for number, suffix in enumerate((".tar", ".tar.gz", ".zip")):
        path = pack(folder, tiny / f"tiny{suffix}")
        found.append(raw_bytes(tmp_path / f"packed{number}"))
        assert all(isinstance(entry, Written) for entry in sources.fetch_into(tmp_path, TINY).splits.values())
        path.unlink()
    folder.rename(tiny / "tiny")
    found.append(raw_bytes(tmp_path / "folder"))
    for split, (images, labels) in sources.fetch(TINY).items():
        assert np.array_equal(images, splits[split][0])
        assert np.array_equal(labels, splits[split][1])
    for number, suffix in enumerate(("", ".gz")):
        lay_official(tiny / "TINY" / "raw", splits, suffix)
        found.append(raw_bytes(tmp_path / f"official{number}"))
        shutil.rmtree(tiny / "TINY")
    assert all(files == found[0] for files in found)
    assert np.load(tmp_path / "folder" / "01-tiny" / "train_images.npy").shape == (20, 4, 3)


def test_class_folders_with_other_images_are_refused_by_place(tiny: Path) -> None:
    other = np.zeros((2, 4, 3), np.uint8)
    lay(tiny / "tiny", {split: {"a": other, "b": other} for split in SPLITS})
    with pytest.raises(UserError, match=r"tiny \(train\): sha256 .* expected .*datasets/tiny gave other images"):
        sources.fetch(TINY)


def test_without_a_copy_the_network_is_asked_and_its_absence_is_one_line(tiny: Path) -> None:
    with pytest.raises(UserError, match=r"cannot download train-images-idx3-ubyte\.gz .*no connection.*TAG_DATASETS"):
        sources.fetch(TINY)


def test_a_download_in_the_cache_is_used(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(local.VARIABLE)
    lay_official(local.cache_folder() / "TINY" / "raw", tiny_splits())
    assert np.array_equal(sources.fetch(TINY)["test"][0], tiny_splits()["test"][0])


def test_a_folder_of_datasets_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(local.VARIABLE, str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"TAG_DATASETS: no folder .*none"):
        sources.fetch("mnist")


def test_digits_need_no_folder_of_datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(local.VARIABLE, str(tmp_path / "none"))
    assert len(sources.fetch("digits")) == 2


def test_a_published_file_that_is_checked_by_its_md5_alone_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(local.VARIABLE, str(tmp_path))
    for name in ("train_32x32.mat", "test_32x32.mat"):
        (tmp_path / name).write_bytes(b"other")
    with pytest.raises(UserError, match=r"train_32x32\.mat: not the published file"):
        sources.fetch("svhn")


@pytest.mark.skipif(not REAL, reason=f"{local.VARIABLE} names no folder with the real MNIST")
def test_the_real_mnist_has_the_published_sums() -> None:
    source = sources.SOURCES["mnist"]
    if local.local_files(source.files) is None and local.class_folder("mnist") is None:
        pytest.skip(f"{local.VARIABLE} holds no MNIST")
    splits = sources.fetch("mnist")  # compares the sums
    assert {split: images.shape for split, (images, _) in splits.items()} == {
        "train": (60000, 28, 28),
        "test": (10000, 28, 28),
    }


def test_digits_are_all_1797_images_split_by_class_and_disjoint() -> None:
    splits = sources.fetch("digits")
    (train, train_labels), (test, test_labels) = splits["train"], splits["test"]
    assert len(train) + len(test) == 1797
    assert train.dtype == np.uint8
    assert train.max() == 255
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in test}
    share = np.bincount(test_labels) / (np.bincount(test_labels) + np.bincount(train_labels))
    assert np.all(np.abs(share - 0.25) < 0.01)


def test_canonical_order_is_by_label_then_bytes_whatever_came_first() -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 3, (200, 2, 2), dtype=np.uint8)
    labels = generator.integers(0, 3, 200)
    order = sources.canonical_order(images, labels)
    keys = [(int(labels[i]), images[i].tobytes()) for i in order]
    assert keys == sorted(keys)
    shuffle = generator.permutation(200)
    again = sources.canonical_order(images[shuffle], labels[shuffle])
    assert np.array_equal(images[order], images[shuffle][again])


def test_a_wrong_checksum_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    source = sources.SOURCES["digits"]
    splits = {split: (images.copy(), labels) for split, (images, labels) in sources.fetch("digits").items()}
    splits["train"][0][0, 0, 0] += 1
    monkeypatch.setitem(sources.SOURCES, "digits", sources.Source(lambda folder: splits, source.sha256))
    with pytest.raises(UserError, match=r"digits \(train\): sha256 .* expected"):
        sources.fetch("digits")


def test_every_dataset_that_can_be_named_has_a_source() -> None:
    assert set(sources.SOURCES) == set(get_args(PublicDataset))


def test_notmnist_leaves_out_its_two_broken_files_and_splits_off_a_tenth(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    folder = lay(tmp_path / "laid" / "notMNIST_small", {"": {"A": values[:20], "B": values[20:]}})
    (folder / "A" / "RGVtb2NyYXRpY2FCb2xkT2xkc3R5bGUgQm9sZC50dGY=.png").write_bytes(b"")
    datasets = tmp_path / "datasets"
    datasets.mkdir()
    archive = pack(folder.parent, datasets / "notMNIST_small.tar.gz")
    monkeypatch.setenv(local.VARIABLE, str(datasets))
    with pytest.raises(UserError, match=r"notMNIST_small\.tar\.gz: not the published file \(its sha1 differs\)"):
        sources.fetch("notmnist")
    source = sources.SOURCES["notmnist"]
    mine = replace(source.files[0], checksum="sha1:" + digest(archive, "sha1"))
    monkeypatch.setitem(sources.SOURCES, "notmnist", replace(source, files=(mine,)))
    splits = sources.fetch("notmnist")
    assert {split: np.bincount(labels).tolist() for split, (_, labels) in splits.items()} == {
        "train": [18, 18],
        "test": [2, 2],
    }
    assert {image.tobytes() for images, _ in splits.values() for image in images} == {v.tobytes() for v in values}


def test_another_file_in_the_cache_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(local.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "tag-pipeline").mkdir()
    (tmp_path / "tag-pipeline/notMNIST_small.tar.gz").write_bytes(b"half of it")
    with pytest.raises(UserError, match=r"notMNIST_small\.tar\.gz: not the published file .*; delete it and run again"):
        sources.fetch("notmnist")


def test_what_only_a_person_can_fetch_is_told_with_names_and_places(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(local.VARIABLE, str(tmp_path))
    (tmp_path / "mini-imagenet-cache-train.pkl").write_bytes(b"")
    with pytest.raises(UserError) as caught:
        sources.fetch("miniimagenet")
    for part in ("train.pkl", "val.pkl", "test.pkl", "kaggle.com/datasets/whitemoon/miniimagenet", local.VARIABLE):
        assert part in str(caught.value)


# --- one's own folder


def own(path: Path | str, **values: object) -> Folder:
    return Folder.model_validate({"path": str(path), "height": 4, "width": 3, "colour": "grey"} | values)


def test_an_own_folder_is_found_below_the_folder_of_datasets_or_from_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here, there = np.full((2, 4, 3), 1, np.uint8), np.full((2, 4, 3), 2, np.uint8)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(local.VARIABLE, raising=False)
    lay(tmp_path / "mine", {split: {"a": here, "b": here} for split in SPLITS})
    assert sources.fetch(own("mine"))["train"][0].max() == 1
    assert sources.fetch(own(tmp_path / "mine"))["train"][0].shape == (4, 4, 3)
    datasets = tmp_path / "datasets"
    datasets.mkdir()
    lay(datasets / "mine", {split: {"a": there, "b": there} for split in SPLITS})
    monkeypatch.setenv(local.VARIABLE, str(datasets))
    assert sources.fetch(own("mine"))["train"][0].max() == 2
    assert sources.fetch(own("mine", colour="rgb"))["train"][0].shape == (4, 4, 3, 3)
    with pytest.raises(UserError, match=r"dataset\.path: no folder or archive 'other', neither here nor in"):
        sources.fetch(own("other"))


def test_the_manifest_of_own_images_has_the_names_of_classes_and_what_test_shares_with_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(local.VARIABLE, raising=False)
    values = np.arange(8 * 12, dtype=np.uint8).reshape(8, 4, 3)
    lay(
        tmp_path / "good",
        {"train": {"a": values[:2], "b b": values[2:4]}, "test": {"a": values[4:6], "b b": values[6:]}},
    )
    lay(
        tmp_path / "bad",
        {"train": {"a": values[:2], "b\nb": values[2:4]}, "test": {"a": values[:1], "b\nb": values[6:]}},
    )
    (tmp_path / "raw").mkdir()
    write_raw(tmp_path / "raw", [own(tmp_path / "good"), own(tmp_path / "bad")])
    assert read_classes(tmp_path / "raw") == [["a", "b b"], ["a", "b?b"]]
    told = read_sources(tmp_path / "raw")
    assert told["good"].startswith("your own class folders (")
    assert told["bad"].startswith(
        "your own class folders, 1 of whose 3 test images are among the training images, too ("
    )
    same = "are the same as training images, in every pixel at this size, which makes accuracies too high; "
    assert capsys.readouterr().err == (
        f"download: note: {tmp_path / 'bad'}: 1 of 3 test images (of a) {same}remove them from one of the two\n"
    )
    shutil.rmtree(tmp_path / "raw")
    (tmp_path / "raw").mkdir()
    lay(tmp_path / "pool", {".": {"a": values[:1].repeat(4, axis=0), "b": values[4:]}})
    write_raw(tmp_path / "raw", [own(tmp_path / "pool", test_fraction=0.25)])
    assert capsys.readouterr().err.endswith(f"1 of 2 test images (of a) {same}keep one of each\n")


def test_two_folders_of_the_same_name_keep_their_sources_apart(tmp_path: Path) -> None:
    values = np.arange(8 * 12, dtype=np.uint8).reshape(8, 4, 3)
    for name in ("birds", "cars"):
        lay(
            tmp_path / name / "images",
            {split: {"a": values[at : at + 2], "b": values[at + 4 :]} for at, split in enumerate(SPLITS)},
        )
    (tmp_path / "raw").mkdir()
    write_raw(tmp_path / "raw", [own(tmp_path / name / "images") for name in ("birds", "cars")])
    assert list(read_sources(tmp_path / "raw")) == ["01-images", "02-images"]


def test_a_dataset_has_a_name_that_is_a_file_name() -> None:
    assert name_of(own(f"{79 * 'a'}-{9 * 'b'}")) == 79 * "a"  # as long as a name may be
    assert [name_of(dataset) for dataset in ("mnist", own("../My Birds.tar.gz"), own("/"), own("~/x"))] == [
        "mnist", "my-birds", "folder", "x",
    ]  # fmt: skip
