"""Locate the files of a dataset: in the folder that TAG_DATASETS names, in the user's cache, or on the network.

The environment variable TAG_DATASETS is not a parameter of the pipeline: it changes where the bytes come from, never
which bytes. Its folder holds either the official files (under the names that torchvision uses:
`MNIST/raw/train-images-idx3-ubyte.gz`, `cifar-10-python.tar.gz`) or class folders (`<dataset>/`, `<dataset>.tar`,
`.tar.gz`, `.tgz`, `.zip`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.datasets.archives import SUFFIXES
from pipeline.datasets.download import download
from pipeline.support.errors import UserError
from pipeline.support.files import digest

VARIABLE = "TAG_DATASETS"


@dataclass(frozen=True)
class OfficialFile:
    """A file of a dataset as its authors publish it.

    Attributes:
        urls: Mirrors, in the order in which they are tried; empty if the file can only be downloaded by hand.
        checksum: Algorithm and digest of the published bytes, as in "md5:..."; "" if none is known.
        names: Paths below TAG_DATASETS where the file may lie; the first is also its path below the cache. A name may
            be that of a folder into which the archive was unpacked.
        repacked: Whether a local copy may have been unpacked or compressed again, so that its own checksum means
            nothing and only the sha256 of its images can be verified.
    """

    urls: tuple[str, ...]
    checksum: str
    names: tuple[str, ...]
    repacked: bool = True


def datasets_folder() -> Path | None:
    """The folder that TAG_DATASETS names.

    Returns:
        The folder, or None if the variable is unset or empty.

    Raises:
        UserError: if there is no such folder.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    folder = _expanded(named, VARIABLE)
    if not folder.is_dir():
        raise UserError(f"{VARIABLE}: no folder {named}; name one that holds the datasets, or unset it")
    return folder


def _expanded(path: str, where: str) -> Path:
    """Expand ~ and ~user. Raises UserError for an unknown user; `where` names the origin of the path in the message."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{where}: {path}: {error}; write the whole path") from None


def cache_folder() -> Path:
    """The folder for downloads: outside the project, so that every copy of it (such as a DVC experiment) shares them.

    Raises:
        UserError: if it cannot be determined because it names an unknown user.
    """
    return _expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "XDG_CACHE_HOME") / "tag-pipeline"


def local_files(files: Sequence[OfficialFile]) -> list[Path] | None:
    """Find official files below TAG_DATASETS.

    Returns:
        Their paths in the order of `files`, or None if one is missing or the variable is unset.

    Raises:
        UserError: if TAG_DATASETS names no folder, or if a file that cannot have been repacked has the wrong checksum.
    """
    folder = datasets_folder()
    if folder is None:
        return None
    found = []
    for file in files:
        path = next((folder / name for name in file.names if (folder / name).exists()), None)
        if path is None:
            return None
        if not file.repacked:
            _verify(path, file, "fetch it again")
        found.append(path)
    return found


def _verify(path: Path, file: OfficialFile, fix: str) -> None:
    """Raise UserError if the checksum of an official file is known, and that of `path` differs."""
    algorithm, _, wanted = file.checksum.partition(":")
    if wanted and digest(path, algorithm) != wanted:
        raise UserError(f"{path}: not the published file (its {algorithm} differs); {fix}")


def class_folder(dataset: str) -> Path | None:
    """Find the class folders of a public dataset below TAG_DATASETS.

    Returns:
        A folder or an archive, or None if there is none or the variable is unset.

    Raises:
        UserError: if TAG_DATASETS names no folder.
    """
    folder = datasets_folder()
    if folder is None:
        return None
    forms = [folder / f"{dataset}{suffix}" for suffix in ("", *SUFFIXES)]
    return next((form for form in forms if form.exists()), None)


def own_folder(path: str) -> Path:
    """Find the user's own folder or archive: below TAG_DATASETS if it exists there, else relative to the project.

    Raises:
        UserError: if it exists in neither place.
    """
    given, datasets = _expanded(path, "benchmarks.yaml: dataset.path"), datasets_folder()
    places = [given] if datasets is None else [datasets / given, given]
    for place in places:
        if place.exists():
            return place
    also = "" if given.is_absolute() else f", neither here nor in the folder of {VARIABLE}"
    raise UserError(f"benchmarks.yaml: dataset.path: no folder or archive '{path}'{also}; fix the path")


def fetched_files(dataset: str, files: Sequence[OfficialFile], *, folders: bool, manual: str = "") -> list[Path]:
    """Find official files in the cache, downloading those that are missing.

    Args:
        dataset: The name of the dataset, for error messages.
        files: The files to find.
        folders: Whether class folders can replace them, for error messages.
        manual: Where the user can get files that have no address, for error messages.

    Returns:
        Their paths in the order of `files`.

    Raises:
        UserError: if a file cannot be downloaded, or can only be downloaded by hand; or if one in the cache has the
            wrong checksum.
    """
    paths = []
    for file in files:
        path = cache_folder() / file.names[0]
        if not path.exists():
            if not file.urls:
                names = ", ".join(other.names[0] for other in files)
                raise UserError(
                    f"{dataset}: needs {names}, which must be fetched by hand: {manual}; put them into a folder and name "
                    f"it in the environment variable {VARIABLE} (or put them into {cache_folder()})"
                )
            other = f", or class folders as {dataset}.tar," if folders else ""
            fix = (
                f"run again to go on where it stopped, or put the file below a folder, as {file.names[0]}{other} and name "
                f"that folder in the environment variable {VARIABLE}"
            )
            download(file.urls, path, file.checksum, fix=fix)
        elif not file.repacked:
            _verify(path, file, "delete it and run again")
        paths.append(path)
    return paths
