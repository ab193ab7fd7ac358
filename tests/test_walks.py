"""The walks of docs/architecture.md lead through the code as it is."""

from __future__ import annotations

import re

import pytest

from tests.paths import ROOT

HOPS = re.findall(r"`([^`]+)`\s+\(`([^`]+\.py)`\)", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("line", "file"), HOPS, ids=[f"{file}-{number}" for number, (_, file) in enumerate(HOPS)])
def test_a_hop_stands_where_the_walk_says(line: str, file: str) -> None:
    lines = [text.strip() for text in (ROOT / file).read_text(encoding="utf-8").splitlines()]
    assert any(line in text for text in lines), f"{file} has no line with: {line}"


def test_there_are_three_walks() -> None:
    assert len(HOPS) >= 17
