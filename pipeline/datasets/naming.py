"""Names of datasets and splits, as used in file names and manifests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from pipeline.config.data import Folder

SPLITS = ("train", "test")


def name_of(dataset: str | Folder) -> str:
    """The name of a dataset for use in file names.

    Args:
        dataset: The name of a public dataset, or a folder of the user's own.

    Returns:
        A public dataset's own name. For a folder, the last part of its path up to the first dot, in lower-case letters,
        digits and single dashes, of which the first 80 count; "folder" if nothing remains.
    """
    if isinstance(dataset, str):
        return dataset
    stem = PurePath(dataset.path).name.partition(".")[0]
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:80].rstrip("-") or "folder"


def shown(name: str) -> str:
    """The name of a folder as it may stand in a manifest: on one line of at most 200 characters, and in UTF-8."""
    return re.sub(r"[\x00-\x1f]", "?", name.encode("utf-8", "replace").decode())[:200]


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names for an error message: at most the first `most`, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
