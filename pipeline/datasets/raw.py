"""Datasets on disk, each split in canonical order.

data/raw/  manifest.json  01-mnist/{train,test}_{images,labels}.npy  (02-svhn/... where a stream takes several datasets)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.datasets.arrays import Split, read_split
from pipeline.handover.documents import read_document
from pipeline.handover.manifests import RawManifest

FIX = "delete data/raw and run 'dvc repro download'"


def read_raw(folder: Path) -> list[Mapping[str, Split]]:
    """The splits of each dataset in `data/raw`. Raises UserError for a missing or damaged file."""
    manifest = read_document(RawManifest, folder / "manifest.json", FIX)
    return [
        {
            split: read_split(folder / entry.folder, split, tuple(described.shape), described.sha256, FIX)
            for split, described in (("train", entry.splits.train), ("test", entry.splits.test))
        }
        for entry in manifest.datasets
    ]
