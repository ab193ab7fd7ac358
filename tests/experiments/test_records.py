"""What the record of a run keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.experiments.records import Key, path_of, read_record, write_record
from pipeline.support.errors import UserError
from tests.handover.doors import RUNS

KEY = Key("0" * 64, "1" * 64, "")
MADE: dict[str, Any] = {"commit": "2" * 40, "images": "3" * 64, "machine": {"device": "cpu"}, "seconds": 1.5}


def test_a_record_keeps_the_mean_of_alpha_over_each_task_and_no_course(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    train = {**RUNS[0].train, "alpha": [[[1.0], [2.0]], [[1.0, 2.0], [2.0, 4.0]]]}
    write_record("mine", "naive", 1, KEY, MADE, train, None)
    held = read_record("mine", "naive", 1, KEY)
    assert held is not None
    assert held["alpha"] == [[[1.5]], [[1.5, 3.0]]]
    assert (held["seconds"], held["images"]) == (1.5, "3" * 64)
    assert "continual" not in held


@pytest.mark.parametrize("name", ["plan", "data", "eigenspectrum"])
def test_a_record_of_another_plan_other_data_or_other_spectra_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_record("mine", "naive", 1, KEY, MADE, {**RUNS[0].train}, None)
    assert read_record("mine", "naive", 1, KEY) is not None
    assert read_record("mine", "naive", 1, replace(KEY, **{name: "9" * 64})) is None


def test_the_record_of_another_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_record("mine", "naive", 1, KEY, MADE, {**RUNS[0].train}, None)
    for method, seed in (("tag", 1), ("naive", 2)):
        path_of("mine", method, seed).write_bytes(path_of("mine", "naive", 1).read_bytes())
        with pytest.raises(UserError, match=r"is the record of naive, seed 1; restore it from Git"):
            read_record("mine", method, seed, KEY)
