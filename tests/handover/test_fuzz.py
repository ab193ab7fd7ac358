"""No file gets through wrong: with any change it is read as it is, or refused in a line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.support.errors import UserError
from tests.handover.doors import ANYTHING, DOORS, Door
from tests.handover.mutations import mutated

#: Examples of each door: in the normal tests, and of all doors together under `-m slow`.
FEW, MANY = 12, int(os.environ.get("TAG_FUZZ", "10000"))


def fuzz(door: Door, folder: Path, examples: int, repeatable: bool) -> None:
    door.prepare(folder)
    path = folder / door.file
    valid = path.read_bytes()
    expected = door.other(valid)
    assert expected is ANYTHING or door.read(folder) == expected

    @settings(
        max_examples=examples, deadline=None, derandomize=repeatable, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def check(data: st.DataObject) -> None:
        changed = data.draw(mutated(valid, door.text))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(changed)
        before = {other for other in folder.rglob("*") if "run" not in other.parts}
        try:
            read = door.read(folder)
        except UserError as error:
            line = " ".join(str(error).split())
            assert len(line) < 2000
        else:
            expected = door.other(changed)
            assert expected is ANYTHING or read == expected
        assert {other for other in folder.rglob("*") if "run" not in other.parts} == before

    check()


@pytest.mark.parametrize("name", DOORS)
def test_a_changed_file_is_read_as_it_is_or_refused_in_a_line(name: str, tmp_path: Path) -> None:
    fuzz(DOORS[name], tmp_path, FEW, repeatable=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", DOORS)
def test_the_same_with_ten_thousand_changes(name: str, tmp_path: Path) -> None:
    fuzz(DOORS[name], tmp_path, -(-MANY // len(DOORS)), repeatable=False)
