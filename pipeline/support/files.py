"""Atomic writing of files and folders (under a temporary name, then renamed), strict reading of JSON, and checksums."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.support.errors import UserError

_MARK = ".partial-"
#: Free bytes below which a short write is attributed to a full disk.
ROOM = 1 << 20


@contextlib.contextmanager
def whole_file(path: str | Path, durable: bool = False) -> Iterator[Path]:
    """Write a file so that it is either complete or left as it was.

    Args:
        path: The file to write; missing parent folders are created.
        durable: Whether it is on the disk when the block ends, so that it survives a power cut, too.

    Yields:
        A temporary path in the same folder. What the block writes there is renamed to `path` when the block succeeds
        and removed when it fails.

    Raises:
        IsADirectoryError: if `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "expected a file, found a folder", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    partial = path.with_name(f".{path.name}{_MARK}{os.getpid()}")
    try:
        with _named(path):
            partial.unlink(missing_ok=True)  # of a killed process with the same number, as containers give them
            yield partial
            if durable:
                _sync(partial)
            partial.replace(path)
            if durable:
                _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Write a folder so that it is either complete or left as it was.

    To write several outputs together, open them in one `with` statement: all are then complete before the first one
    replaces its predecessor.

    Args:
        path: The folder to write or replace; missing parent folders are created.

    Yields:
        An empty temporary folder beside `path`. It replaces `path` when the block succeeds and is removed when it
        fails.

    Raises:
        NotADirectoryError: if `path` is a file or a symbolic link.
    """
    path = Path(path)
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise NotADirectoryError(errno.ENOTDIR, "expected a folder, found a file or a link", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    partial = path.with_name(f".{path.name}{_MARK}{os.getpid()}")
    old = path.with_name(f".{path.name}{_MARK}old-{os.getpid()}")
    try:
        with _named(path):
            for left in (partial, old):  # of a killed process with the same number
                shutil.rmtree(left, ignore_errors=True)
            partial.mkdir()
            yield partial
            if path.exists():
                path.replace(old)  # renaming is instant, while removing a large folder takes time
            try:
                partial.replace(path)
            except OSError:
                if old.exists():
                    old.replace(path)
                raise
    finally:
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def whole_files(folder: str | Path, renewed: Iterable[str] = ()) -> Iterator[Path]:
    """Write several files into a folder that may hold others, only once all of them are complete.

    Args:
        folder: The folder to write to; it is created if missing.
        renewed: Names of files that the block is responsible for. Those that it does not write are removed from
            `folder`.

    Yields:
        An empty temporary folder. Its files are moved into `folder` when the block succeeds and removed when it fails.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        partial = folder / f".files{_MARK}{os.getpid()}"
        _sweep(folder / "files")
        stack.callback(shutil.rmtree, partial, ignore_errors=True)
        stack.enter_context(_named(folder))
        shutil.rmtree(partial, ignore_errors=True)  # of a killed process with the same number
        partial.mkdir()
        yield partial
        made = sorted(path.name for path in partial.iterdir())
        for name in made:
            (partial / name).replace(folder / name)
        for name in set(renewed) - set(made):
            (folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Add the file to an OSError that names none, such as that of a short write."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # how NumPy reports a short write
            full = shutil.disk_usage(path.parent).free < ROOM
            code = errno.ENOSPC if full else errno.EIO
            raise OSError(code, os.strerror(code) if full else str(error), str(path)) from error
        if error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _sweep(path: Path) -> None:
    """Remove temporary files of `path` that killed processes left behind, but not those of living processes."""
    for left in path.parent.glob(f".{path.name}{_MARK}*"):
        owner = left.name.rpartition("-")[2]
        if re.fullmatch("[0-9]{1,9}", owner) and not _alive(int(owner)):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_text(path: str | Path, text: str) -> None:
    """Write a text file as UTF-8, atomically."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def marked(path: Path, begin: str, end: str, text: str) -> str:
    """Replace what stands between two markers of a text file; the file itself is not changed.

    Args:
        path: The file to read.
        begin: The marker before the text to replace.
        end: The marker after it.
        text: The new text, which is put on lines of its own between the markers.

    Returns:
        The whole new contents of the file.

    Raises:
        UserError: if a marker is missing.
    """
    before, first, rest = path.read_text(encoding="utf-8").partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        raise UserError(f"{path}: the marks {begin} and {end} are not there; put them where the table belongs")
    return f"{before}{begin}\n{text}\n{end}{after}"


def as_json(value: Any) -> str:
    """Format a value as the text of a JSON file, with sorted keys, so that equal values give equal bytes.

    Raises:
        ValueError: if the value contains NaN or infinity.
    """
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file as formatted by `as_json`, atomically.

    Raises:
        ValueError: if the value contains NaN or infinity.
    """
    write_text(path, as_json(value))


def read_json(path: str | Path, fix: str) -> Any:
    """Read a JSON file strictly: duplicate keys, NaN and infinity, which Python's reader accepts, are errors.

    Args:
        path: The file to read.
        fix: What the user can do if the file is missing or damaged; the end of the error message.

    Raises:
        UserError: if the file is missing, damaged or nested too deeply. The message names the file.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        return json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_refuse)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; {fix}") from None
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); {fix}") from None
    except RecursionError:
        raise UserError(f"{path}: damaged (nested too deep); {fix}") from None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands twice")
    return made


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not a valid JSON number")


def digest(path: str | Path, algorithm: str = "sha256") -> str:
    """The checksum of a file in hexadecimal, by an algorithm that hashlib knows under this name."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def significant(value: float, digits: int = 5) -> float:
    """Round to `digits` significant digits, so that metrics do not change if only the last bits of weights differ."""
    return float(f"{value:.{digits}g}")
