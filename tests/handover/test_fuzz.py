"""No file gets through wrong: with any change it is read as it is, or refused in a line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.support.errors import UserError
from tests.handover.doors import ANYTHING, DOORS, Door
from tests.handover.mutations import mutated, slightly_changed

#: Examples of each door: in the normal tests, and of all doors together under `-m slow`.
FEW, MANY = 12, int(os.environ.get("TAG_FUZZ", "10000"))


def lets_in(door: Door, folder: Path, data: bytes) -> bool:
    """Whether a door reads a file of these bytes, which is then read as it is; otherwise they are refused in a line."""
    path = folder / door.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    before = {other for other in folder.rglob("*") if "run" not in other.parts}
    try:
        read = door.read(folder)
    except UserError as error:
        line = " ".join(str(error).split())
        assert len(line) < 2000
        read = None
    else:
        expected = door.other(data)
        assert expected is ANYTHING or read == expected
    assert {other for other in folder.rglob("*") if "run" not in other.parts} == before
    return read is not None


def fuzz(door: Door, folder: Path, examples: int, repeatable: bool) -> None:
    door.prepare(folder)
    valid = (folder / door.file).read_bytes()
    assert lets_in(door, folder, valid)
    refused = 0

    @settings(
        max_examples=examples, deadline=None, derandomize=repeatable, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def check(data: st.DataObject) -> None:
        nonlocal refused
        refused += not lets_in(door, folder, data.draw(mutated(valid, door.text)))

    check()
    assert refused > 0


@pytest.mark.parametrize("name", DOORS)
def test_a_changed_file_is_read_as_it_is_or_refused_in_a_line(name: str, tmp_path: Path) -> None:
    fuzz(DOORS[name], tmp_path, FEW, repeatable=True)


#: Doors that no change gets through: of every byte that they look at there is a checksum.
SEALED = {"images of a task", "labels of a task", "manifest of raw data", "raw images"}


@pytest.mark.parametrize("name", [name for name in DOORS if name not in SEALED])
def test_a_file_is_not_refused_for_any_change(name: str, tmp_path: Path) -> None:
    door = DOORS[name]
    door.prepare(tmp_path)
    valid = (tmp_path / door.file).read_bytes()
    assert any(lets_in(door, tmp_path, changed) for changed in slightly_changed(valid, door.text))


@pytest.mark.slow
@pytest.mark.parametrize("name", DOORS)
def test_the_same_with_ten_thousand_changes(name: str, tmp_path: Path) -> None:
    fuzz(DOORS[name], tmp_path, -(-MANY // len(DOORS)), repeatable=False)
