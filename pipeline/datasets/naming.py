"""What datasets and their splits are called, in files and manifests."""

from __future__ import annotations

import re
from pathlib import PurePath

from pipeline.config.schema import Folder

SPLITS = ("train", "test")


def name_of(dataset: str | Folder) -> str:
    """A public dataset's name, or the last part of a folder's path, as a file name."""
    if isinstance(dataset, str):
        return dataset
    stem = PurePath(dataset.path).name.partition(".")[0]
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "folder"
