from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.support import files
from pipeline.support.errors import UserError
from pipeline.support.files import read_json, significant, whole_file, whole_folder, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError), whole_file(path) as partial:
        partial.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert path.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_block_that_fails_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(RuntimeError), whole_folder(folder) as partial:
        (partial / "new").touch()
        raise RuntimeError
    assert names(tmp_path) == ["out"]
    assert names(folder) == ["old"]


def test_a_whole_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old").touch()
    with whole_folder(folder) as partial:
        (partial / "new").touch()
    assert names(folder) == ["new"]


def test_the_old_folder_comes_back_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, replace = tmp_path / "out", Path.replace
    folder.mkdir()
    (folder / "old").touch()

    def failing(self: Path, target: Path) -> Path:
        if (self / "new").exists():
            raise OSError(errno.EIO, "Input/output error", str(self))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="Input/output error"), whole_folder(folder) as partial:
        (partial / "new").touch()
    assert names(folder) == ["old"]
    assert names(tmp_path) == ["out"]


def test_what_a_killed_process_left_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".out.partial-{dead.pid}").mkdir()
    (tmp_path / f".out.partial-{os.getppid()}").mkdir()
    with whole_folder(tmp_path / "out"):
        pass
    assert names(tmp_path) == [f".out.partial-{os.getppid()}", "out"]


def test_json_is_sorted_and_refuses_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": 2})
    write_json(tmp_path / "b.json", {"a": 2, "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "c.json", {"a": float("nan")})
    assert not (tmp_path / "c.json").exists()


def test_damaged_json_says_how_to_mend(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": 1})[:-1], encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.json: damaged .*; run it again"):
        read_json(path, "run it again")


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a": NaN}', "[" * 100_000])
def test_json_that_python_would_read_or_end_at_is_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.json: damaged \(.*\); mend it"):
        read_json(tmp_path / "a.json", "mend it")


def test_significant_digits() -> None:
    assert significant(123456.0) == 123460.0
    assert significant(0.000123456) == 0.00012346
    assert significant(0.0) == 0.0


def test_a_disk_that_takes_no_more_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: the same short write, the same path through the code."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError) as caught, whole_folder(tmp_path / "out") as partial:
            np.save(partial / "a.npy", np.zeros(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename
    assert names(tmp_path) == []


def test_a_short_write_on_a_disk_with_room_is_no_full_disk(tmp_path: Path) -> None:
    for room, told in ((0, "a short write"), (2**62, os.strerror(errno.ENOSPC))):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "ROOM", room)
            with pytest.raises(OSError, match=told), whole_folder(tmp_path / "out"):
                raise OSError("a short write")
