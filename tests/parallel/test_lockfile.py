"""dvc.lock taken apart into stages: what is read and written is what DVC reads and writes."""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from dvc.utils.serialize._yaml import _dump
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipeline.parallel.lockfile import HEAD, blocks, parse, plain_blocks, plainly
from tests.clones import ENVIRONMENT
from tests.parallel.test_side_by_side import trivial
from tests.paths import ROOT

LOCK = (ROOT / "dvc.lock").read_text(encoding="utf-8")


def test_the_projects_own_lock_is_read_as_yaml_reads_it() -> None:
    parts, wanted = plain_blocks(LOCK), YAML(typ="safe").load(LOCK)
    assert parts is not None
    assert parse(parts) == wanted
    parse(parts)["stages"].clear()  # a caller's changes do not reach the next one
    assert parse(parts) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "schema: '2.0'\n",
        LOCK[:-1],
        "# mine\n" + LOCK,
        LOCK.replace("stages:\n", "stages:\n  # mine\n", 1),
        LOCK.replace("stages:\n", "stages: &all\n", 1),
        LOCK + "datasets: []\n",
        LOCK + blocks(LOCK)[1][0][1],  # a stage twice
        HEAD + "  plan: {cmd: python}\n",
        HEAD + "  plan:\n",
        HEAD + "  plan:\n   cmd: python\n",
    ],
)
def test_a_lock_that_somebody_has_edited_or_cut_is_left_to_dvc(text: str) -> None:
    assert plain_blocks(text) is None


RUN = """
import json, sys
from pathlib import Path
from pipeline.parallel import dvc, dvc_inside
if sys.argv[1] == "parts":
    dvc_inside.read_and_write_single_stages()
    from dvc.utils.serialize import _yaml
    def refused(*_):
        raise AssertionError("the whole dvc.lock was parsed")
    _yaml.parse_yaml_for_update = refused
    from dvc import dvcfile
    dvcfile.modify_yaml = refused
for value, stages in json.loads(sys.argv[2]):
    Path("p.yaml").write_text(f"k: {value}\\n", encoding="utf-8")
    for stage in stages:
        assert dvc.run_command(["repro", "--single-item", "--quiet", stage]) == 0, stage
"""


def made(folder: Path, how: str) -> str:
    """The lock of a small pipeline whose stages were run in one process, first all and then two that have changed."""
    clone = trivial(folder, {"z": ("true", []), "a-1": ("cat p.yaml", ["z"]), "c": ("true", ["z"])})
    clone.edit("dvc.yaml", '"outs": [\n    "a-1.txt"\n   ]', '"outs": ["a-1.txt"], "params": [{"p.yaml": ["k"]}]')
    long = "x" * 70 + " " + "y" * 70  # would be folded
    steps = [(f"'{long}'", ["z", "a-1", "c"]), ("[1e-3, null]", ["a-1"]), ("'7'", ["a-1", "c"])]
    (folder / "p.yaml").write_text("k: 1\n", encoding="utf-8")
    clone.repro("z")  # DVC itself makes the file
    command = [sys.executable, "-c", RUN, how, json.dumps(steps)]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return (folder / "dvc.lock").read_text(encoding="utf-8")


def test_stages_are_written_byte_for_byte_as_dvc_writes_them(tmp_path: Path) -> None:
    texts = []
    for how in ("whole", "parts"):
        folder = tmp_path / how
        folder.mkdir()
        texts.append(made(folder, how))
    assert texts[0] == texts[1]
    assert "k: '7'" in texts[0]


def leaves() -> st.SearchStrategy[object]:
    words = st.sampled_from(
        ["no", "Yes", "null", "a b", "a  b", "x/y-z.py", "1e5", "12e34567890123456789012345678901", "0x10", "~", "01",
         "1_000", "", " a", "a: b", "#", "a #b", "12:30", "2020-01-01", "a,b", ".5", "5.", "-1", "=", "<<", "é", "on",
         "d41d8cd98f00b204e9800998ecf8427e", "1" * 32, "1" * 31 + "e", "a" * 90 + " " + "b" * 20]
    )  # fmt: skip
    numbers = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none())
    return st.one_of(words, st.text(max_size=12), numbers)


def trees() -> st.SearchStrategy[object]:
    keys = st.one_of(st.sampled_from(["a", "b/c.py", "no", "y", "a b", "deps", "1"]), st.text(max_size=5))
    return st.recursive(leaves(), lambda below: st.lists(below) | st.dictionaries(keys, below), max_leaves=12)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["cmd", "deps", "params", "outs"]), trees(), min_size=1))
def test_whatever_dvc_writes_is_read_plainly_as_yaml_reads_it_or_not_at_all(value: dict[str, object]) -> None:
    stream = StringIO()
    _dump({"schema": "2.0", "stages": {"a": value}}, stream)
    part = stream.getvalue().removeprefix(HEAD)
    found = plainly(part)
    if found is not None:
        (read,) = YAML(typ="safe").load(part).values()
        assert repr(found) == repr({"a": read})  # 1 and true are equal


def test_nearly_every_stage_of_the_projects_lock_is_read_plainly() -> None:
    names = {name for name, part in blocks(LOCK)[1] if plainly(part) is None}
    assert names <= {"plan", "split"}  # their parameters are whole sections, with quoted text


@pytest.mark.parametrize(
    "text",
    [
        "  a: &x\n",
        "  a:\n    b: |\n      c\n",
        "  a:\n    b: c\n      d\n",
        "  a:\n    b: c\n    b: d\n",
        "  a:\n      b: c\n    d: e\n",
        "  a:\n    - b\n  c: d\n",
        "  a:\n    b:\n      - c: d\n",
        "  a:\n    b: [c]\n",
        "  a:\n    b: c # d\n",
        "  a:\n    b:  c\n",
        "  a:\n\tb: c\n",
    ],
)
def test_anything_unusual_is_left_to_yaml(text: str) -> None:
    assert plainly(text) is None
