"""The public datasets: where their images come from, and their checksums.

A source provides uint8 images and integer labels for the splits `train` and `test`. Each split is put into canonical
order (by label, then by the image's raw bytes) and its sha256, where known, is verified, so every form of a dataset
gives the same arrays. Places are searched in this order: official files below TAG_DATASETS, class folders there, the
user's cache of downloads, the network.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.config.data import Folder
from pipeline.datasets import local, miniimagenet, official
from pipeline.datasets.arrays import sha256_of_arrays
from pipeline.datasets.folders import ClassFolder, write_class_folder
from pipeline.datasets.local import OfficialFile
from pipeline.datasets.naming import listed
from pipeline.datasets.spool import Written
from pipeline.support.errors import UserError, note

#: Images, (n, height, width[, 3]) uint8, and labels, (n,) int64.
Split = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Source:
    """One public dataset.

    Attributes:
        read: Takes a folder and the paths of `files` in order. For each split it either returns the images, (n, height,
            width[, 3]) uint8, and labels, (n,), or writes them into the folder in canonical order and returns their
            description.
        sha256: Checksum of each split in canonical order; empty if unknown, in which case only the checksums of the
            files themselves are verified.
        files: The official files; empty if the images come with a Python package.
        shape: Shape of an image. None if class folders cannot replace the official files, because without `sha256` they
            could not be verified.
        manual: Where the user can get files that have no address; completes an error message.
        read_folders: Reads class folders that are published in many versions, so that no checksum tells whether they
            are right: takes a folder to write into and the class folders, and returns the description of the splits
            and, in words, what it read. None if class folders are read as those of any dataset.
    """

    read: Callable[..., Mapping[str, Split | Written]]
    sha256: Mapping[str, str]
    files: tuple[OfficialFile, ...] = ()
    shape: tuple[int, ...] | None = None
    manual: str = ""
    read_folders: Callable[[Path, Path], tuple[Mapping[str, Written], str]] | None = None


@dataclass(frozen=True)
class Fetched:
    """A dataset.

    Attributes:
        splits: For each split in canonical order either its images and labels in memory, which are not written yet
            (`write_raw` does that), or the shape and checksum of what was written.
        source: What was read, where no checksum could tell that it is what was published, or where it is one's own; None
            otherwise.
        classes: The names of the classes in the order of their labels; None for those of a public dataset.
    """

    splits: Mapping[str, Split | Written]
    source: str | None = None
    classes: Sequence[str] | None = None


def _in_memory(reader: Callable[..., Mapping[str, Split]]) -> Callable[..., Mapping[str, Split]]:
    return lambda folder, *paths: reader(*paths)


def _digits() -> dict[str, Split]:
    """The 1,797 handwritten digits that come with scikit-learn (UCI optdigits, 8x8, 17 grey levels).

    They have no split of their own: a seeded quarter of each class is the test split. Grey levels 0..16 become 0..255.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    test = np.zeros(len(labels), dtype=bool)
    generator = np.random.default_rng(0)
    for label in np.unique(labels):
        of_label = generator.permutation(np.flatnonzero(labels == label))
        test[of_label[: len(of_label) // 4]] = True
    return {"train": (images[~test], labels[~test]), "test": (images[test], labels[test])}


def _idx_files(folder: str, dataset: str, mirrors: tuple[str, ...], *md5: str) -> tuple[OfficialFile, ...]:
    """The four IDX files of a dataset, gzipped or not, under the names that torchvision or a Linux package gives them.

    `md5` has the checksums of train images, train labels, test images and test labels.
    """
    stems = [f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    return tuple(
        OfficialFile(
            tuple(f"{mirror}{stem}.gz" for mirror in mirrors),
            f"md5:{sum_}",
            (f"{folder}/raw/{stem}.gz", f"{folder}/raw/{stem}", f"{dataset}/{stem}.gz"),
        )
        for stem, sum_ in zip(stems, md5, strict=True)
    )


def _cifar_file(stem: str, folder: str, md5: str) -> tuple[OfficialFile, ...]:
    return (
        OfficialFile((f"https://www.cs.toronto.edu/~kriz/{stem}.tar.gz",), f"md5:{md5}", (f"{stem}.tar.gz", folder)),
    )


def _svhn_file(name: str, md5: str) -> OfficialFile:
    return OfficialFile(
        (f"http://ufldl.stanford.edu/housenumbers/{name}",), f"md5:{md5}", (name, f"svhn/{name}"), repacked=False
    )


def _notmnist(folder: Path, archive: Path) -> Mapping[str, Written]:
    """notMNIST small: 18,724 images of the letters A to J in many typefaces, 28x28 grey.

    It has no split of its own: a seeded tenth of each class is the test split (in TAG's experiments, an unseeded tenth
    of all images). Two of its files are empty and are skipped.
    """
    broken = frozenset({"RGVtb2NyYXRpY2FCb2xkT2xkc3R5bGUgQm9sZC50dGY=.png", "Q3Jvc3NvdmVyIEJvbGRPYmxpcXVlLnR0Zg==.png"})
    return write_class_folder(ClassFolder(archive, (28, 28), test_fraction=0.1, broken=broken), folder).splits


def _notmnist_folders(folder: Path, copy: Path) -> tuple[Mapping[str, Written], str]:
    splits = _notmnist(folder, copy)
    images = sum(written.shape[0] for written in splits.values())
    return splits, f"class folders, {images:,} of the 18,724 images"


def _miniimagenet_file(part: str) -> OfficialFile:
    name = f"mini-imagenet-cache-{part}.pkl"
    return OfficialFile((), "", (name, f"miniimagenet/{name}", f"imagenet/{name}"))


SOURCES: dict[str, Source] = {
    "digits": Source(
        _in_memory(_digits),
        {
            "train": "4a5b3645a29abcd53c8fe77c38350430d55fb57065f3b87560933328df8c1404",
            "test": "e29db3c2afd0acfc066f416a05a90dd2ab0e44b335dc6660697b4c9aa8e0f84c",
        },
    ),
    "mnist": Source(
        _in_memory(official.idx),
        {
            "train": "96e6697e223719c2a60ac5b71b6ef2cd8677abc5f946c828dd92e6e076188a16",
            "test": "5149ae28de12f52eeff955ef8fbfa76c3ebe5c3f47673c01a7d847fafff6860c",
        },
        _idx_files(
            "MNIST",
            "mnist",
            ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        (28, 28),
    ),
    "fashion-mnist": Source(
        _in_memory(official.idx),
        {
            "train": "dea7bf942a04cef41f1dcdb5c8be376d84f4fa333f9080fa8a342c2a89e7a30a",
            "test": "3b6e9bad01e561d43d0b941f0c8a83828c800a41ebfb626d7da94f91628ca6d6",
        },
        _idx_files(
            "FashionMNIST",
            "fashion-mnist",
            ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        (28, 28),
    ),
    "cifar10": Source(
        _in_memory(official.cifar10),
        {
            "train": "949c0b4d951efccff4932f99131cee8ae893f6d2f02f55986989f86deec9b28f",
            "test": "1c3d67ed25249724d625348474e878f92420fb0f63552feb1fde08e6e1ca76ee",
        },
        _cifar_file("cifar-10-python", "cifar-10-batches-py", "c58f30108f718f92721af3b95e74349a"),
        (32, 32, 3),
    ),
    "cifar100": Source(
        _in_memory(official.cifar100),
        {
            "train": "9dc1463b62598c6200aa8d36a5003826a3d6da84b9c431e6eab6431a3d3c8de3",
            "test": "6d546a337ecdf4e62e0c0c2bbb64a7a0ee2773d53a19ec255744b560f041ce77",
        },
        _cifar_file("cifar-100-python", "cifar-100-python", "eb9058c3a382ffc7106e4002c42a8d85"),
        (32, 32, 3),
    ),
    "svhn": Source(
        _in_memory(official.svhn),
        {},
        (
            _svhn_file("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
            _svhn_file("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
        ),
    ),
    "notmnist": Source(
        _notmnist,
        {},
        (
            OfficialFile(
                tuple(
                    f"{mirror}/notMNIST_small.tar.gz"
                    for mirror in (
                        "https://commondatastorage.googleapis.com/books1000",
                        "http://yaroslavvb.com/upload/notMNIST",
                    )
                ),
                "sha1:23db76a71f83982f18a51b855b5746bd52e01f1c",
                ("notMNIST_small.tar.gz", "notmnist/notMNIST_small.tar.gz"),
                repacked=False,
            ),
        ),
        read_folders=_notmnist_folders,
    ),
    "miniimagenet": Source(
        miniimagenet.pickles,
        {},
        tuple(_miniimagenet_file(part) for part in ("train", "test", "val")),
        manual="from https://www.kaggle.com/datasets/whitemoon/miniimagenet (it asks for an account)",
        read_folders=miniimagenet.class_folders,
    ),
    "cub": Source(
        official.cub,
        {},
        (
            OfficialFile(
                ("https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",),
                "md5:97eceeb196236b17998738112f37df78",
                ("CUB_200_2011.tgz", "cub/CUB_200_2011.tgz"),
                repacked=False,
            ),
        ),
    ),
}


def canonical_order(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Indices that bring a split into canonical order: by label, then by the image's raw bytes.

    Args:
        images: (n, ...) uint8.
        labels: (n,).

    Returns:
        (n,) indices.
    """
    rows = np.ascontiguousarray(images).reshape(len(images), -1)
    # Viewed as fixed-length byte strings, images are compared in place, without copying each.
    by_bytes = np.argsort(rows.view(f"S{rows.shape[1]}")[:, 0], kind="stable")
    return by_bytes[np.argsort(labels[by_bytes], kind="stable")]


def fetch(dataset: str | Folder) -> dict[str, Split]:
    """Fetch a dataset into memory.

    Args:
        dataset: The name of a public dataset, or a folder of the user's own.

    Returns:
        The splits "train" and "test" in canonical order, verified.

    Raises:
        UserError: if the dataset cannot be reached or read, or has the wrong checksum.
    """
    with tempfile.TemporaryDirectory() as folder:
        return {
            split: _loaded(Path(folder), split) if isinstance(found, Written) else found
            for split, found in fetch_into(Path(folder), dataset).splits.items()
        }


def fetch_into(folder: Path, dataset: str | Folder) -> Fetched:
    """Fetch a dataset, writing the splits of a large one to disk instead of holding them in memory.

    Args:
        folder: An existing folder to write such splits into.
        dataset: The name of a public dataset, or a folder of the user's own.

    Raises:
        UserError: if the dataset cannot be reached or read, or has the wrong checksum.
    """
    if isinstance(dataset, Folder):
        path = local.own_folder(dataset.path)
        own = ClassFolder(path, dataset.array, dataset.test_fraction, dataset.seed)
        read = write_class_folder(own, folder, look_for_shared=True)
        source = "your own class folders"
        if read.shared:
            count, of = sum(read.shared.values()), read.splits["test"].shape[0]
            source += f", {count:,} of whose {of:,} test images are among the training images, too"
            fix = "remove them from one of the two" if dataset.test_fraction is None else "keep one of each"
            note(
                "download",
                f"{path}: {count:,} of {of:,} test images (of {listed(list(read.shared))}) are the same as training images, "
                f"in every pixel at this size, which makes accuracies too high; {fix}",
            )
        return Fetched(read.splits, source, read.classes)
    published = SOURCES[dataset]
    paths = local.local_files(published.files) if published.files else []
    copy = local.class_folder(dataset) if paths is None else None
    if copy and published.read_folders:
        return Fetched(*published.read_folders(folder, copy))
    if copy and published.shape is not None:
        written = write_class_folder(ClassFolder(copy, published.shape), folder).splits
        for split, entry in written.items():
            _check(dataset, split, entry.sha256, str(copy))
        return Fetched(written)
    if paths is None:
        folders = published.shape is not None or published.read_folders is not None
        paths = local.fetched_files(dataset, published.files, folders=folders, manual=published.manual)
    splits: dict[str, Split | Written] = {}
    for split, found in published.read(folder, *paths).items():
        if not isinstance(found, Written):
            images, labels = found
            order = canonical_order(images, labels)
            images, labels = images[order], labels[order].astype(np.int64)
            found = (images, labels)
        sha256 = found.sha256 if isinstance(found, Written) else sha256_of_arrays(*found)
        _check(dataset, split, sha256, ", ".join(map(str, paths)) or "its package")
        splits[split] = found
    verified = published.sha256 or all(file.checksum for file in published.files)
    return Fetched(splits, None if verified else "the official files, whose checksums are not known")


def _loaded(folder: Path, split: str) -> Split:
    return np.load(folder / f"{split}_images.npy"), np.load(folder / f"{split}_labels.npy")


def _check(dataset: str, split: str, found: str, where: str) -> None:
    wanted = SOURCES[dataset].sha256.get(split)
    if wanted is not None and found != wanted:
        raise UserError(
            f"{dataset} ({split}): sha256 {found}, expected {wanted}: {where} gave other images or labels than the published "
            "ones; replace that copy"
        )
