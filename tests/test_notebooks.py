"""The notebooks of docs/ run as they stand, and print what they show."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT

NUMBER = re.compile(r"-?\d+\.\d+")
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def run(notebook: dict[str, Any]) -> None:
    """What `python docs/site/notebooks.py` does."""
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "docs" / "site" / "notebooks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.run(notebook)


def printed(notebook: dict[str, Any]) -> list[str]:
    return ["".join(output["text"]) for cell in notebook["cells"] for output in cell.get("outputs", [])]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_prints_what_it_shows(path: Path) -> None:
    kept = json.loads(path.read_text(encoding="utf-8"))
    again = copy.deepcopy(kept)
    run(again)
    shown, new = "\n".join(printed(kept)), "\n".join(printed(again))
    assert shown
    assert NUMBER.sub("#", new) == NUMBER.sub("#", shown)
    # Numbers to a tolerance: another processor's last bits grow over some hundred steps.
    expected = [float(number) for number in NUMBER.findall(shown)]
    assert [float(number) for number in NUMBER.findall(new)] == pytest.approx(expected, rel=0.3, abs=0.05)


def test_there_is_a_notebook() -> None:
    assert NOTEBOOKS
