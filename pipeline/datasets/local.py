"""Where the bytes of a dataset are: in the folder that TAG_DATASETS names, in the user's cache, or on the network.

TAG_DATASETS is no parameter: it changes where bytes come from, never which bytes. The folder holds either the official
files (as torchvision lays them: `MNIST/raw/train-images-idx3-ubyte.gz`, `cifar-10-python.tar.gz`) or class folders
(`<dataset>/`, `<dataset>.tar`, `.tar.gz`, `.zip`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.datasets.archives import SUFFIXES
from pipeline.datasets.download import digest, download
from pipeline.support.errors import UserError

VARIABLE = "TAG_DATASETS"


@dataclass(frozen=True)
class OfficialFile:
    """A file as its authors publish it.

    urls: mirrors; none where only a person can fetch it. checksum: of those bytes, "md5:..." and the like; "" where none is
    published. names: where it may lie below TAG_DATASETS, the first also below the cache; a folder stands for the archive
    that it was unpacked from. repacked: whether a copy may have been compressed again, so that only the images' own sha256
    can be checked.
    """

    urls: tuple[str, ...]
    checksum: str
    names: tuple[str, ...]
    repacked: bool = True


def datasets_folder() -> Path | None:
    """The folder of TAG_DATASETS. Raises UserError where there is none of that name."""
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    folder = _expanded(named, VARIABLE)
    if not folder.is_dir():
        raise UserError(f"{VARIABLE}: no folder {named}; name one that holds the datasets, or unset it")
    return folder


def _expanded(path: str, where: str) -> Path:
    """The path with ~ and ~user followed. where: what it was given in. Raises UserError for a user that is not there."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{where}: {path}: {error}; write the whole path") from None


def cache_folder() -> Path:
    """Where downloads are kept: outside the project, so that every copy of it (a DVC experiment) finds them again."""
    return _expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "XDG_CACHE_HOME") / "tag-pipeline"


def local_files(files: Sequence[OfficialFile]) -> list[Path] | None:
    """The official files below TAG_DATASETS; None where one is missing."""
    folder = datasets_folder()
    if folder is None:
        return None
    found = []
    for file in files:
        path = next((folder / name for name in file.names if (folder / name).exists()), None)
        if path is None:
            return None
        algorithm, _, wanted = file.checksum.partition(":")
        if not file.repacked and wanted and digest(path, algorithm) != wanted:
            raise UserError(f"{path}: not the published file (its {algorithm} differs); fetch it again")
        found.append(path)
    return found


def class_folder(dataset: str) -> Path | None:
    """The class folders of `dataset` below TAG_DATASETS: a folder or an archive; None where there are none."""
    folder = datasets_folder()
    if folder is None:
        return None
    forms = [folder / f"{dataset}{suffix}" for suffix in ("", *SUFFIXES)]
    return next((form for form in forms if form.exists()), None)


def own_folder(path: str) -> Path:
    """One's own folder or archive: below TAG_DATASETS where it is there, otherwise from the project's root.

    Raises UserError where there is none.
    """
    given, datasets = _expanded(path, "benchmarks.yaml: dataset.path"), datasets_folder()
    places = [given] if datasets is None else [datasets / given, given]
    for place in places:
        if place.exists():
            return place
    also = "" if given.is_absolute() else f", neither here nor in the folder of {VARIABLE}"
    raise UserError(f"benchmarks.yaml: dataset.path: no folder or archive '{path}'{also}; fix the path")


def fetched_files(dataset: str, files: Sequence[OfficialFile], *, folders: bool, manual: str = "") -> list[Path]:
    """The official files in the cache, downloaded where missing.

    folders: whether class folders can stand for them. manual: where a person finds the files that no program may fetch.
    Raises UserError.
    """
    paths = []
    for file in files:
        path = cache_folder() / file.names[0]
        if not path.exists():
            if not file.urls:
                names = ", ".join(other.names[0] for other in files)
                raise UserError(
                    f"{dataset}: needs {names}, which only a person can fetch: {manual}; put them into a folder and name "
                    f"it in the environment variable {VARIABLE} (or put them into {cache_folder()})"
                )
            other = f", or class folders as {dataset}.tar," if folders else ""
            fix = (
                f"run again to go on where it stopped, or put the file below a folder, as {file.names[0]}{other} and name "
                f"that folder in the environment variable {VARIABLE}"
            )
            download(file.urls, path, file.checksum, fix=fix)
        paths.append(path)
    return paths
