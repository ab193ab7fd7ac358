"""Reader of data/raw/: the datasets of a benchmark, each split in canonical order.

    data/raw/  manifest.json  01-mnist/{train,test}_{images,labels}.npy  (02-svhn/... if a stream has several datasets)

`pipeline.datasets.raw_writer` writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.datasets.arrays import Split, read_split
from pipeline.handover.documents import read_document
from pipeline.handover.manifests import RawManifest

FIX = "delete data/raw and run 'dvc repro download'"


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
