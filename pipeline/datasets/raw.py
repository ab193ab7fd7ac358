"""Reader of data/raw/: the datasets of a benchmark, each split in canonical order.

    data/raw/  manifest.json  01-mnist/{train,test}_{images,labels}.npy  (02-svhn/... if a stream has several datasets)

`pipeline.datasets.raw_writer` writes it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pipeline.datasets.arrays import Split, read_split
from pipeline.handover.documents import read_document
from pipeline.handover.manifests import RawManifest

FIX = "delete data/raw and run 'dvc repro download'"


def read_sources(folder: Path) -> dict[str, str]:
    """Tell what was read of each dataset that no checksum could tell to be what was published, or that is one's own.

    Args:
        folder: The folder with the manifest.

    Returns:
        By dataset, what was read and the beginning of a SHA-256 of it, such as "class folders (0123456789ab)". Datasets
        that have the same name go by that of their folder, such as 02-images.

    Raises:
        UserError: if the manifest is missing or damaged.
    """
    manifest = read_document(RawManifest, folder / "manifest.json", FIX)
    count = Counter(entry.name for entry in manifest.datasets)
    told = {}
    for entry in manifest.datasets:
        if entry.source:
            name = entry.name if count[entry.name] == 1 else entry.folder
            told[name] = f"{entry.source} ({_sum(entry.splits.train.sha256 + entry.splits.test.sha256)})"
    return told


def read_classes(folder: Path) -> list[list[str] | None]:
    """Read the names of the classes of each dataset.

    Args:
        folder: The folder with the manifest.

    Returns:
        For each dataset, the names in the order of the labels; None where classes are known by their numbers.

    Raises:
        UserError: if the manifest is missing or damaged.
    """
    return [entry.classes for entry in read_document(RawManifest, folder / "manifest.json", FIX).datasets]


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_raw(folder: Path) -> list[Mapping[str, Split]]:
    """Open the datasets in `data/raw`, verifying the checksum of each split.

    Args:
        folder: The folder with the manifest.

    Returns:
        For each dataset, its splits "train" and "test". Their images stay on disk.

    Raises:
        UserError: if a file is missing or damaged.
    """
    manifest = read_document(RawManifest, folder / "manifest.json", FIX)
    return [
        {
            split: read_split(folder / entry.folder, split, tuple(described.shape), described.sha256, FIX)
            for split, described in (("train", entry.splits.train), ("test", entry.splits.test))
        }
        for entry in manifest.datasets
    ]
