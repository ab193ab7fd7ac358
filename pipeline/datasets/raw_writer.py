"""The writer of data/raw/: datasets, fetched. What reads them is `pipeline.datasets.raw`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.schema import Dataset
from pipeline.datasets.arrays import sha256_of_arrays
from pipeline.datasets.naming import name_of
from pipeline.datasets.sources import fetch_into
from pipeline.datasets.spool import Written
from pipeline.handover.documents import write_document
from pipeline.handover.manifests import RawManifest


def write_raw(folder: Path, datasets: Sequence[Dataset]) -> None:
    """Fetch the datasets into an empty folder. Raises UserError."""
    entries = []
    for number, dataset in enumerate(datasets, start=1):
        name = name_of(dataset)
        place = folder / f"{number:02d}-{name}"
        place.mkdir()
        splits = write_splits(place, fetch_into(place, dataset))
        entries.append({"name": name, "folder": place.name, "splits": splits})
    write_document(RawManifest, {"datasets": entries}, folder / "manifest.json")


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
