"""Where raw images come from, in one canonical order whatever the source.

A source returns uint8 images and integer labels of the splits `train` and `test`. `fetch` sorts each split by label, then
by the image's raw bytes, and checks its sha256, so that every form of a dataset gives the same arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.errors import UserError, nearest
from pipeline.files import sha256_of_arrays

Split = tuple[np.ndarray, np.ndarray]
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Source:
    """load: gives {split: (images uint8 (n, height, width[, 3]), labels (n,))}. sha256: of each split in canonical order."""

    load: Callable[[], Mapping[str, Split]]
    sha256: Mapping[str, str]


def _digits() -> dict[str, Split]:
    """scikit-learn's 1,797 handwritten digits (UCI optdigits, 8x8, 17 grey levels), packaged with it.

    They come without a split of their own: a seeded quarter of each class is the test split. Grey levels 0..16 become
    0..255.
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


SOURCES: dict[str, Source] = {
    "digits": Source(
        _digits,
        {
            "train": "4a5b3645a29abcd53c8fe77c38350430d55fb57065f3b87560933328df8c1404",
            "test": "e29db3c2afd0acfc066f416a05a90dd2ab0e44b335dc6660697b4c9aa8e0f84c",
        },
    ),
}


def canonical_order(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Indices that sort by label, then by the image's raw bytes. images: (n, ...) uint8; labels: (n,)."""
    rows = np.ascontiguousarray(images).reshape(len(images), -1)
    return np.array(sorted(range(len(rows)), key=lambda i: (int(labels[i]), rows[i].tobytes())), dtype=np.intp)


def known(dataset: str) -> None:
    """Raise UserError where no source has this name."""
    if dataset not in SOURCES:
        raise UserError(f"benchmarks.yaml: dataset: unknown '{dataset}'; {nearest(dataset, SOURCES)}")


def fetch(dataset: str) -> dict[str, Split]:
    """The splits of `dataset` in canonical order, checked. Raises UserError for an unknown name or a wrong checksum."""
    known(dataset)
    source = SOURCES[dataset]
    splits: dict[str, Split] = {}
    for split, (images, labels) in source.load().items():
        order = canonical_order(images, labels)
        images, labels = images[order], labels[order].astype(np.int64)
        found, wanted = sha256_of_arrays(images, labels), source.sha256[split]
        if found != wanted:
            raise UserError(
                f"{dataset} ({split}): sha256 {found}, expected {wanted}: the source gave other images than the published "
                "ones; reinstall or fetch it again"
            )
        splits[split] = (images, labels)
    return splits
