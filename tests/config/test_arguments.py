"""Arguments of commands, and what the machine offers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.config import arguments


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("9900000 100000", 8),
        ("x", 8),
    ],
)
def test_the_cores_of_a_container_are_those_of_its_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(arguments, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(arguments, "OLD_QUOTA", (tmp_path / "quota", tmp_path / "period"))
    assert arguments.cores() == 8
    (tmp_path / "cpu.max").write_text(f"{quota}\n", encoding="utf-8")
    assert arguments.cores() == cores
    (tmp_path / "cpu.max").unlink()
    for held, wanted in (("-1", 8), ("300000", 3)):
        (tmp_path / "quota").write_text(held, encoding="utf-8")
        (tmp_path / "period").write_text("100000", encoding="utf-8")
        assert arguments.cores() == wanted
