"""Datasets on disk, each split in canonical order.

data/raw/  manifest.json  01-mnist/{train,test}_{images,labels}.npy  (02-svhn/... where a stream takes several datasets)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.benchmarks.arrays import Split, read_split
from pipeline.benchmarks.sources import fetch_into, name_of
from pipeline.benchmarks.spool import Written
from pipeline.config.schema import Dataset
from pipeline.files import read_json, sha256_of_arrays, write_json

MEND = "delete data/raw and run 'dvc repro download'"


def write_raw(folder: Path, datasets: Sequence[Dataset]) -> None:
    """Fetch the datasets into an empty folder. Raises UserError."""
    entries = []
    for number, dataset in enumerate(datasets, start=1):
        name = name_of(dataset)
        place = folder / f"{number:02d}-{name}"
        place.mkdir()
        splits = write_splits(place, fetch_into(place, dataset))
        entries.append({"name": name, "folder": place.name, "splits": splits})
    write_json(folder / "manifest.json", {"datasets": entries})


def write_splits(place: Path, splits: Mapping[str, tuple[np.ndarray, np.ndarray] | Written]) -> dict[str, Any]:
    """Write those splits that are not yet on disk; the manifest's entry of each."""
    entries = {}
    for split, found in splits.items():
        if not isinstance(found, Written):
            images, labels = found
            np.save(place / f"{split}_images.npy", images)
            np.save(place / f"{split}_labels.npy", labels)
            found = Written(images.shape, sha256_of_arrays(images, labels))
        entries[split] = {"shape": list(found.shape), "sha256": found.sha256}
    return entries


def read_raw(folder: Path) -> list[Mapping[str, Split]]:
    """The splits of each dataset in `data/raw`. Raises UserError for a missing or damaged file."""
    return [
        {
            split: read_split(folder / entry["folder"], split, tuple(described["shape"]), MEND)
            for split, described in entry["splits"].items()
        }
        for entry in read_json(folder / "manifest.json", MEND)["datasets"]
    ]
