"""The files of a folder, a .tar, a .tar.gz or a .zip, one after another, read as bytes and never unpacked onto the disk.

Nothing is written by a name that an archive gives, so no archive can write outside its folder. Names that would try (an
absolute one, one with ..), links and devices are refused all the same: such an archive is broken or hostile.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from tarfile import EmptyHeaderError  # type: ignore[attr-defined]  # public, but for __all__
from typing import IO, cast

from pipeline.support.errors import UserError

#: What an archive's name may end in, in the order in which they are looked for.
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
#: No file of a dataset that is read here comes near; a larger one is a decompression bomb.
MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class Member:
    """A file or a folder. name: relative, with /. read: a file's bytes, valid until the next member is asked for."""

    name: str
    is_folder: bool
    read: Callable[[], bytes]


def members(path: Path) -> Iterator[Member]:
    """The members of a folder (by name) or an archive (as they are stored).

    Raises UserError for a missing or damaged archive, and for a hostile member, by its name.
    """
    if path.is_dir():
        yield from _of_folder(path)
        return
    if not path.name.endswith(SUFFIXES):
        raise UserError(f"{path}: neither a folder nor an archive; allowed: {', '.join(SUFFIXES)}")
    with _told(path):
        yield from _of_zip(path) if path.suffix == ".zip" else _of_tar(path)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what a missing or damaged archive raises into one line that names it."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise UserError(f"{path}: damaged or not readable ({error}); fetch it again") from None
    except RuntimeError as error:  # zipfile's way to refuse a password, or a compression that this Python lacks
        raise UserError(
            f"{path}: not readable ({error}); pack it again, without a password, as tar or zip do"
        ) from None
    except OSError as error:
        if error.filename is None:  # gzip's way to say that the bytes are none of its own
            raise UserError(f"{path}: damaged ({error}); fetch it again") from None
        raise
    except (ValueError, LookupError, TypeError, ArithmeticError, AttributeError, struct.error) as error:
        # What tarfile and zipfile make of odd headers, as of sparse files with a word for a number.
        raise UserError(f"{path}: damaged (a header cannot be read: {error!r}); fetch it again") from None


def _of_folder(root: Path) -> Iterator[Member]:
    # Links are followed here: the folder is the user's own, and large datasets are often linked together.
    open_folders: set[str] = set()
    for folder, names, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in open_folders:
            raise UserError(f"{folder}: links to a folder that is already part of {root}; remove the link")
        open_folders.add(real)
        names.sort()
        for name in names:
            place = Path(folder, name)
            yield Member(place.relative_to(root).as_posix(), True, bytes)
        for name in sorted(files):
            place = Path(folder, name)
            if not place.is_file():
                raise UserError(f"{place}: neither a file nor a folder (a dead link or a device); remove it")
            yield Member(place.relative_to(root).as_posix(), False, place.read_bytes)


def _of_tar(path: Path) -> Iterator[Member]:
    with _unpacked(path) as file, tarfile.open(fileobj=file, mode="r|", tarinfo=_Entry) as archive:
        for entry in archive:
            name = _safe(path, entry.name)
            if not (entry.isreg() or entry.isdir()):
                raise UserError(f"{path}: member '{entry.name}' is a link or a device; refused: fetch another copy")
            told = (
                entry.pax_headers
            )  # of which tarfile takes a size that is a word for 0, and half a sparse map for none
            sparse = entry.issparse() or any(key.startswith("GNU.sparse") for key in told)
            if sparse or told.get("size", str(entry.size)) != str(entry.size):
                raise UserError(
                    f"{path}: member '{entry.name}' is sparse or of no known size; pack it without --sparse"
                )
            _small(path, name, entry.size)

            def read(entry: tarfile.TarInfo = entry) -> bytes:
                with _told(path):
                    file = archive.extractfile(entry)
                    return _whole(file, entry.size) if file else b""

            yield Member(name, entry.isdir(), read)
            archive.members = []  # type: ignore[attr-defined]  # it would keep every header otherwise
        _read_to_the_end(file)


class _Entry(tarfile.TarInfo):
    """A header of a tar file. Without the empty block that ends every tar, the file was cut between two members."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Entry:
        """The next one."""
        try:
            return super().fromtarfile(tarfile)
        except EmptyHeaderError:
            raise EOFError("it ends without the mark of its end") from None


def _unpacked(path: Path) -> IO[bytes]:
    """The bytes of a tar file, unpacked by what it is, whatever its name says. tarfile's own way does not look at the
    checksum that ends a compressed file."""
    with path.open("rb") as file:
        head = file.read(6)
    for magic, opened in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open)):
        if head.startswith(magic):
            return cast("IO[bytes]", opened(path, "rb"))
    return path.open("rb")


def _read_to_the_end(file: IO[bytes]) -> None:
    """Read what follows the last member, up to the checksum of a compressed file."""
    read = 0
    while piece := file.read(1 << 20):
        read += len(piece)
        if read > MAX_BYTES:
            raise EOFError("it goes on after its end")


def _of_zip(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = _safe(path, entry.orig_filename)
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(f"{path}: member '{entry.filename}' is a link or a device; refused: fetch another copy")
            _small(path, name, entry.file_size)

            def read(entry: zipfile.ZipInfo = entry) -> bytes:
                with _told(path), archive.open(entry) as file:
                    return _whole(file, entry.file_size)

            yield Member(name, entry.is_dir(), read)


def _whole(file: IO[bytes], size: int) -> bytes:
    data = file.read()
    if len(data) != size:
        raise EOFError("it ends in the middle of a member")
    return data


def _safe(archive: Path, name: str) -> str:
    """The name without `./`; UserError where it leads out of the archive's own folder, on any system."""
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    if ".." in windows.parts or posix.is_absolute() or windows.anchor or "\0" in name:
        raise UserError(f"{archive}: member {name!r} leads out of its folder; refused: fetch another copy")
    return posix.as_posix()


def _small(archive: Path, name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise UserError(f"{archive}: member '{name}' would take {size:,} bytes; refused: more than {MAX_BYTES:,}")
