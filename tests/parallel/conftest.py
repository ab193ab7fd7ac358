"""Repositories for the tests of what DVC does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.parallel import dvc
from stages.process import STAGE
from tests.clones import Clone
from tests.parallel.test_side_by_side import trivial


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A repository that has run: `b` and `a` depend on `z`, and `whole` on the folder that holds what `a` makes."""
    clone = trivial(
        tmp_path_factory.mktemp("dvc"),
        {"z": (f"echo ${STAGE} > stage", []), "a": ("cat p.yaml", ["z"]), "b": ("true", ["z"])},
    )
    clone.edit("dvc.yaml", '"outs": [\n    "a.txt"\n   ]', '"outs": ["folder/a.txt"], "params": [{"p.yaml": ["k"]}]')
    clone.edit("dvc.yaml", "echo a > a.txt", "echo a > folder/a.txt")
    whole = '"whole": {"cmd": "cat folder/a.txt > whole.txt", "deps": ["folder"], "outs": ["whole.txt"]}, "z": {'
    clone.edit("dvc.yaml", '"z": {', whole)
    (clone.folder / "p.yaml").write_text("k: 7\n", encoding="utf-8")
    (clone.folder / "folder").mkdir()
    clone.repro()
    clone.commit("ran")
    return clone


@pytest.fixture
def repository(ran: Clone, monkeypatch: pytest.MonkeyPatch) -> Iterator[dvc.Repository]:
    monkeypatch.chdir(ran.folder)
    with dvc.open_repository() as found:
        yield found
