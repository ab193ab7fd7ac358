"""Read the files of a folder, a .tar, a .tar.gz or a .zip one after another as bytes, without unpacking them to disk.

No file is ever written under a name taken from an archive, so no archive can write outside its folder. Unsafe names
(absolute, or with ..), links and devices are refused all the same: an archive that has them is broken or hostile.
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
from typing import IO, Any, cast

from pipeline.support.errors import UserError

#: Allowed endings of an archive's name, in the order in which they are tried.
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
#: Largest member in bytes. No file of a supported dataset comes near this size; a larger one is a decompression bomb.
MAX_BYTES = 1 << 30
#: Largest header of a tar file in bytes: tarfile reads headers whole, and they hold a name and a few attributes.
MAX_HEADER = 1 << 20


@dataclass(frozen=True)
class Member:
    """A file or a folder inside a folder or an archive.

    Attributes:
        name: Its path relative to the folder or archive, with / as the separator.
        is_folder: Whether it is a folder.
        read: Returns the bytes of a file. May only be called before the next member is requested.
    """

    name: str
    is_folder: bool
    read: Callable[[], bytes]


def members(path: Path) -> Iterator[Member]:
    """Iterate over the members of a folder or an archive.

    Args:
        path: A folder, which is walked in order of names, following links; or an archive with one of the endings in
            `SUFFIXES`, which is read in stored order.

    Yields:
        Each file and each folder.

    Raises:
        UserError: if `path` is neither a folder nor an archive; if the archive is missing, damaged or encrypted; if a
            folder has a dead link, a device or a folder linked in twice; or if a member of an archive is a link, a
            device, sparse, larger than `MAX_BYTES`, stored twice or has an unsafe name. The message names the culprit.
    """
    if path.is_dir():
        yield from _of_folder(path)
        return
    if not path.name.endswith(SUFFIXES):
        raise UserError(f"{path}: neither a folder nor an archive; allowed: {', '.join(SUFFIXES)}")
    seen: set[str] = set()
    with _reported(path):
        for member in _of_zip(path) if path.suffix == ".zip" else _of_tar(path):
            # `tar -r` stores a file again; unpacked, the last one wins, while read in a row both would count.
            if not member.is_folder and member.name in seen:
                raise UserError(f"{path}: member '{member.name}' is stored twice; unpack it and pack it again")
            seen.add(member.name)
            yield member


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Turn every exception that a missing or damaged archive can raise into a UserError that names the archive."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise UserError(f"{path}: damaged or not readable ({error}); fetch it again") from None
    except RuntimeError as error:  # raised by zipfile for an encrypted file or an unsupported compression method
        raise UserError(
            f"{path}: not readable ({error}); repack it without a password, with ordinary tar or zip"
        ) from None
    except OSError as error:
        if error.filename is None:  # raised by gzip for bytes that are not gzip data; it names no file
            raise UserError(f"{path}: damaged ({error}); fetch it again") from None
        raise
    except (ValueError, LookupError, TypeError, ArithmeticError, AttributeError, struct.error) as error:
        # Raised by tarfile and zipfile for malformed headers, such as a sparse file with a word in place of a number.
        raise UserError(f"{path}: damaged (a header cannot be read: {error!r}); fetch it again") from None


def _of_folder(root: Path) -> Iterator[Member]:
    # Links are followed here: the folder is the user's own, and large datasets are often assembled from links.
    def stop(error: OSError) -> None:
        raise error  # os.walk would leave the folder out

    seen: set[str] = set()
    for folder, names, files in os.walk(root, followlinks=True, onerror=stop):
        real = os.path.realpath(folder)
        if real in seen:
            raise UserError(f"{folder}: links to a folder that is already part of {root}; remove the link")
        seen.add(real)
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
            # tarfile itself reads a size that is not a number as 0, and ignores an incomplete sparse map.
            headers = entry.pax_headers
            sparse = entry.issparse() or any(key.startswith("GNU.sparse") for key in headers)
            if sparse or headers.get("size", str(entry.size)) != str(entry.size):
                raise UserError(
                    f"{path}: member '{entry.name}' is a sparse file or has an invalid size; pack it without --sparse"
                )
            _small(path, name, entry.size)

            def read(entry: tarfile.TarInfo = entry) -> bytes:
                with _reported(path):
                    file = archive.extractfile(entry)
                    return _whole(file, entry.size) if file else b""

            yield Member(name, entry.isdir(), read)
            archive.members = []  # type: ignore[attr-defined]  # otherwise it keeps every header in memory
        _read_to_the_end(file)


#: Types of members that describe the next one, and that tarfile reads whole.
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip


class _Entry(tarfile.TarInfo):
    """A tar header of bounded size that insists on the end-of-archive block.

    A file that lacks the block was truncated between two members, which tarfile alone would take for its normal end.
    """

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        """Read what follows the header; tarfile calls it for every one.

        Raises:
            tarfile.ReadError: if that is a long name, or attributes, of more than `MAX_HEADER` bytes.
        """
        if self.type in _HEADERS and self.size > MAX_HEADER:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _Entry:
        """Return the next header.

        Raises:
            EOFError: if the file ends without the end-of-archive block.
        """
        try:
            return super().fromtarfile(tarfile)
        except EmptyHeaderError:
            raise EOFError("it ends without the mark of its end") from None


def _unpacked(path: Path) -> IO[bytes]:
    """Open a tar file and decompress it according to its first bytes, whatever its name says.

    tarfile's own decompression does not verify the checksum at the end of a compressed file.
    """
    with path.open("rb") as file:
        head = file.read(6)
    for magic, opened in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open)):
        if head.startswith(magic):
            return cast("IO[bytes]", opened(path, "rb"))
    return path.open("rb")


def _read_to_the_end(file: IO[bytes]) -> None:
    """Read whatever follows the last member, so that the checksum at the end of a compressed file is verified."""
    read = 0
    while piece := file.read(1 << 20):
        read += len(piece)
        if read > MAX_BYTES:
            raise EOFError("it goes on after its end")


def _of_zip(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = _safe(path, _name(entry))
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(f"{path}: member '{entry.filename}' is a link or a device; refused: fetch another copy")
            _small(path, name, entry.file_size)

            def read(entry: zipfile.ZipInfo = entry) -> bytes:
                with _reported(path), archive.open(entry) as file:
                    return _whole(file, entry.file_size)

            yield Member(name, entry.is_dir(), read)


def _name(entry: zipfile.ZipInfo) -> str:
    """The name of a member. Info-ZIP and others write UTF-8 without saying so, which Python takes for code page 437."""
    if not entry.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            return entry.orig_filename.encode("cp437").decode("utf-8")
    return entry.orig_filename


def _whole(file: IO[bytes], size: int) -> bytes:
    data = file.read()
    if len(data) != size:
        raise EOFError("it ends in the middle of a member")
    return data


def _safe(archive: Path, name: str) -> str:
    """The name without `./`. Raises UserError if it would lead out of the archive's folder on any operating system."""
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    if ".." in windows.parts or posix.is_absolute() or windows.anchor or "\0" in name:
        raise UserError(f"{archive}: member {name!r} leads out of its folder; refused: fetch another copy")
    return posix.as_posix()


def _small(archive: Path, name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise UserError(f"{archive}: member '{name}' would take {size:,} bytes; refused: more than {MAX_BYTES:,}")
