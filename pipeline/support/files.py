"""Files that are either whole or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.support.errors import UserError

_MARK = ".partial-"
#: Bytes; a disk with less is full where a write fell short.
ROOM = 1 << 20


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` when the block ends well, remove it otherwise."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder is where a file belongs", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    partial = path.with_name(f".{path.name}{_MARK}{os.getpid()}")
    try:
        with _named(path):
            yield partial
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; it takes the place of `path` when the block ends well.

    Several outputs belong in one `with`: all are then written before the first takes its place.
    """
    path = Path(path)
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise NotADirectoryError(errno.ENOTDIR, "a link or a file is where a folder belongs", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    partial = path.with_name(f".{path.name}{_MARK}{os.getpid()}")
    old = path.with_name(f".{path.name}{_MARK}old-{os.getpid()}")
    try:
        with _named(path):
            partial.mkdir()
            yield partial
            if path.exists():
                path.replace(old)  # an instant; to remove it takes as long as it is large
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
    """Yield an empty temporary folder; its files take their places in `folder` when the block ends well.

    Other files of `folder` stay as they are, but for those named in `renewed` that the block did not make, which go.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        partial = folder / f".files{_MARK}{os.getpid()}"
        _sweep(folder / "files")
        stack.callback(shutil.rmtree, partial, ignore_errors=True)
        stack.enter_context(_named(folder))
        partial.mkdir()
        yield partial
        made = sorted(path.name for path in partial.iterdir())
        for name in made:
            (partial / name).replace(folder / name)
        for name in set(renewed) - set(made):
            (folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Give an error of the disk that names no file (a short write) the file it was about."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a short write of NumPy's
            full = shutil.disk_usage(path.parent).free < ROOM
            code = errno.ENOSPC if full else errno.EIO
            raise OSError(code, os.strerror(code) if full else str(error), str(path)) from error
        if error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _sweep(path: Path) -> None:
    """Remove what a killed process left of `path`; leave alone what a living one is writing."""
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
    """Write `text` (UTF-8) whole."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def marked(path: Path, begin: str, end: str, text: str) -> str:
    """What is in a file, with `text` between the marks `begin` and `end`. Raises UserError where they are not there."""
    before, first, rest = path.read_text(encoding="utf-8").partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        raise UserError(f"{path}: the marks {begin} and {end} are not there; put them where the table belongs")
    return f"{before}{begin}\n{text}\n{end}{after}"


def as_json(value: Any) -> str:
    """The text of a JSON file, keys sorted, so that equal values give equal bytes. Raises ValueError on NaN or infinity."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON whole. Raises ValueError on NaN or infinity."""
    write_text(path, as_json(value))


def read_json(path: str | Path, fix: str) -> Any:
    """Read JSON; UserError naming the file and `fix` (what to do) where it is missing or damaged: also for a key that
    stands twice, NaN and infinity, which Python's reader takes and JSON does not have."""
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
    raise ValueError(f"{word} is no number of JSON")


def significant(value: float, digits: int = 5) -> float:
    """Round to `digits` significant digits: metrics keep their bytes where only the last bits of weights differ."""
    return float(f"{value:.{digits}g}")
