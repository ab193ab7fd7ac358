from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.datasets import archives
from pipeline.datasets.archives import members
from pipeline.support.errors import UserError


def listing(path: Path) -> list[tuple[str, bool, bytes]]:
    return sorted((member.name, member.is_folder, member.read()) for member in members(path))


def tar_of(path: Path, *entries: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(b"x" * entry.size))
    return path


def entry_of(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry


def pack(folder: Path, path: Path) -> Path:
    """An archive of a folder's content, in the form that the name of `path` tells."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as zipped:
            for place in sorted(folder.rglob("*")):
                zipped.write(place, place.relative_to(folder))
    else:
        with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
            archive.add(folder, ".")
    return path


@pytest.mark.parametrize("suffix", archives.SUFFIXES)
def test_an_archive_has_the_members_of_the_folder_it_was_made_from(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "data"
    (folder / "a" / "empty").mkdir(parents=True)
    (folder / "a" / "é.bin").write_bytes(b"1" * 70_000)
    (folder / "b.bin").write_bytes(b"")
    packed = pack(folder, tmp_path / f"data{suffix}")
    assert [found for found in listing(packed) if found[0] != "."] == listing(folder)
    assert listing(folder) == [
        ("a", True, b""),
        ("a/empty", True, b""),
        ("a/é.bin", False, b"1" * 70_000),
        ("b.bin", False, b""),
    ]


@pytest.mark.parametrize(
    "name", ["../out", "a/../../out", "/etc/out", "a\\..\\out", "C:\\out", "C:out", "\\\\host\\out"]
)
@pytest.mark.parametrize("form", ["tar", "zip"])
def test_a_name_that_leads_out_is_refused_by_name(tmp_path: Path, name: str, form: str) -> None:
    path = tmp_path / f"hostile.{form}"
    if form == "tar":
        tar_of(path, entry_of(name))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(UserError, match="leads out of its folder; refused") as caught:
        list(members(path))
    assert repr(name) in str(caught.value)
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_links_and_devices_in_a_tar_are_refused_by_name(tmp_path: Path, kind: bytes) -> None:
    path = tar_of(tmp_path / "hostile.tar", entry_of("fine"), entry_of("a/odd", kind, "/etc/passwd"))
    with pytest.raises(UserError, match="'a/odd' is a link or a device"):
        list(members(path))


def test_a_link_in_a_zip_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "hostile.zip"
    entry = zipfile.ZipInfo("a/odd")
    entry.create_system, entry.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(UserError, match="'a/odd' is a link or a device"):
        list(members(path))


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_a_member_that_would_fill_the_memory_is_refused(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "big").write_bytes(bytes(2000))
    monkeypatch.setattr(archives, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match="'big' would take 2,000 bytes"):
        list(members(pack(tmp_path / "data", tmp_path / f"data.{form}")))


@pytest.mark.parametrize("form", ["tar", "tar.gz", "zip"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_stored_twice_is_named(tmp_path: Path, form: str) -> None:
    """As by `tar -r`: the same image could be drawn for training and for testing."""
    path = tmp_path / f"data.{form}"
    if form == "zip":
        with zipfile.ZipFile(path, "w") as zipped:
            for name in ("a/one", "a/two", "a/one"):
                zipped.writestr(name, "x")
    else:
        with tarfile.open(path, "w:gz" if form == "tar.gz" else "w") as archive:
            folder = entry_of("a", tarfile.DIRTYPE)
            for entry in (folder, entry_of("a/one"), folder, entry_of("a/two"), entry_of("./a/one")):
                archive.addfile(entry)
    with pytest.raises(UserError, match="member 'a/one' is stored twice"):
        list(members(path))


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_header_that_would_fill_the_memory_is_refused(
    tmp_path: Path, form: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tarfile reads the header of a long name whole."""
    with tarfile.open(tmp_path / "data.tar", "w", format=form) as archive:
        archive.addfile(entry_of("a/" * 100 + "b" * 200))
    assert len(list(members(tmp_path / "data.tar"))) == 1
    monkeypatch.setattr(archives, "MAX_HEADER", 300)
    with pytest.raises(UserError, match=r"data\.tar: damaged or not readable \(a header of [0-9]+ bytes\)"):
        list(members(tmp_path / "data.tar"))


@pytest.mark.parametrize("suffix", archives.SUFFIXES)
@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.97])
def test_a_truncated_archive_is_one_line(tmp_path: Path, suffix: str, keep: float) -> None:
    (tmp_path / "data").mkdir()
    for name in "abc":
        (tmp_path / "data" / name).write_bytes(os.urandom(20_000))
    path = pack(tmp_path / "data", tmp_path / f"data{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep if keep > 1 else keep * len(whole))])
    if suffix == ".tar" and keep == 0.97:  # only padding is gone
        assert len(listing(path)) == 4
        return
    with pytest.raises(UserError, match=r"data\S+: damaged"):
        listing(path)


@pytest.mark.parametrize(
    ("change", "told"), [((0, 1), "password required"), ((2, 97), "compression method is not supported")]
)
def test_a_zip_that_is_locked_or_packed_otherwise_is_one_line(
    change: tuple[int, int], told: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/1.png", b"pixels")
    data = bytearray(path.read_bytes())
    offset, value = change  # from a header's flags, which the compression follows
    for flags in (data.index(b"PK\x03\x04") + 6, data.index(b"PK\x01\x02") + 8):
        data[flags + offset] = value
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"own\.zip: not readable \(.*{told}.*\); repack it") as caught:
        listing(path)
    assert "\n" not in str(caught.value)


def test_a_missing_archive_and_another_kind_of_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.zip: missing"):
        list(members(tmp_path / "none.zip"))
    (tmp_path / "data.rar").write_bytes(b"Rar!")
    with pytest.raises(UserError, match=r"data\.rar: neither a folder nor an archive"):
        list(members(tmp_path / "data.rar"))


def test_links_of_ones_own_folder_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").write_bytes(b"image")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    assert listing(tmp_path / "data") == [("linked", False, b"image")]
    (tmp_path / "data" / "circle").symlink_to(tmp_path / "data")
    with pytest.raises(UserError, match="circle: links to a folder that is already part"):
        listing(tmp_path / "data")


def test_a_dead_link_and_a_device_in_a_folder_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: neither a file nor a folder"):
        listing(tmp_path)


def test_a_folder_that_cannot_be_listed_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may list every folder, so the system's refusal is made up."""
    (tmp_path / "a" / "closed").mkdir(parents=True)
    real = os.scandir

    def scandir(folder: str) -> Iterator[os.DirEntry[str]]:
        if str(folder).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="closed"):
        list(members(tmp_path))


def test_names_in_a_zip_are_utf_8_whether_it_says_so_or_not(tmp_path: Path) -> None:
    """Info-ZIP, which makes most of them on Linux and macOS, does not; others wrote code page 437."""
    path = tmp_path / "birds.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("Möwe/éa.png", b"1")
        archive.writestr("plain/b.png", b"2")
    flagged = path.read_bytes()
    assert flagged.count(b"\x00\x08\x00\x00") >= 2  # bit 11 of the flags, before the method of compression
    for offset in (flagged.index(b"PK\x03\x04") + 6, flagged.index(b"PK\x01\x02") + 8):
        assert flagged[offset : offset + 2] == b"\x00\x08"
        flagged = flagged[:offset] + b"\x00\x00" + flagged[offset + 2 :]
    path.write_bytes(flagged)
    assert listing(path) == [("Möwe/éa.png", False, b"1"), ("plain/b.png", False, b"2")]
    old = flagged.replace("Möwe/éa".encode(), b"M\x94we/\x82a\x81\x81")  # as long, and no UTF-8
    path.write_bytes(old)
    assert [name for name, *_ in listing(path)] == ["Möwe/éaüü.png", "plain/b.png"]
