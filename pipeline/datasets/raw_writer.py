"""Writer of data/raw/: fetch the datasets of a benchmark and store them. `pipeline.datasets.raw` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.data import Dataset
from pipeline.datasets.arrays import sha256_of_arrays
from pipeline.datasets.naming import name_of, shown
from pipeline.datasets.sources import fetch_into
from pipeline.datasets.spool import Written
from pipeline.handover.documents import write_document
from pipeline.handover.manifests import RawManifest


def write_raw(folder: Path, datasets: Sequence[Dataset]) -> None:
    """Fetch datasets and write them, with a manifest, into an empty folder.

    Args:
        folder: An existing, empty folder.
        datasets: Names of public datasets, or folders of the user's own.

    Raises:
        UserError: if a dataset cannot be fetched or read, or has the wrong checksum.
    """
    entries = []
    for number, dataset in enumerate(datasets, start=1):
        name = name_of(dataset)
        place = folder / f"{number:02d}-{name}"
        place.mkdir()
        fetched = fetch_into(place, dataset)
        entry: dict[str, Any] = {"name": name, "folder": place.name, "splits": write_splits(place, fetched.splits)}
        if fetched.source:
            entry["source"] = fetched.source
        if fetched.classes:
            entry["classes"] = list(map(shown, fetched.classes))
        entries.append(entry)
    write_document(RawManifest, {"datasets": entries}, folder / "manifest.json")


def write_splits(place: Path, splits: Mapping[str, tuple[np.ndarray, np.ndarray] | Written]) -> dict[str, Any]:
    """Write those splits that are not on disk yet.

    Args:
        place: The folder of the dataset.
        splits: By name, images and labels in canonical order, or the description of a split already in `place`.

    Returns:
        The manifest's entry for each split: {split: {"shape": ..., "sha256": ...}}.
    """
    entries = {}
    for split, found in splits.items():
        if not isinstance(found, Written):
            images, labels = found
            np.save(place / f"{split}_images.npy", images)
            np.save(place / f"{split}_labels.npy", labels)
            found = Written(images.shape, sha256_of_arrays(images, labels))
        entries[split] = {"shape": list(found.shape), "sha256": found.sha256}
    return entries
