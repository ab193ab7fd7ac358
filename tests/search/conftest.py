"""A folder to search in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.paths import edit


@pytest.fixture
def folder(configured: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to search in, with a benchmark of two tasks."""
    edit(configured / "benchmarks.yaml", "    tasks: 5", "    tasks: 2")
    monkeypatch.chdir(configured)
    return configured
