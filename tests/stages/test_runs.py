from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.support.files import write_text
from stages.runs import RunFiles


def test_the_log_of_a_stage_counts_the_seconds_before_it_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = RunFiles("naive", 1)
    write_text(run.metrics, "{}")
    with run.logged("train") as log:
        log["seconds_before"] = 100.0
    told = json.loads(Path("logs/train/naive-1.json").read_text(encoding="utf-8"))
    assert 100 <= told["seconds"] < 200
    with pytest.raises(RuntimeError), run.logged("eigenspectrum"):
        raise RuntimeError
    assert not Path("logs/eigenspectrum").exists()
