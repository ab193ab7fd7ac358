from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from pipeline.report import record
from pipeline.support.errors import UserError
from pipeline.support.files import write_json, write_text
from tests.clones import Clone
from tests.paths import ROOT, edit


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a run leaves, as far as a record needs it."""
    for name in ("params.yaml", "benchmarks.yaml", "methods.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    write_text(
        tmp_path / "plots/runs.csv",
        "method,seed,average_accuracy,learning_accuracy\nnaive,1,0.6,0.7\nnaive,2,0.7,0.7\ntag,1,0.8,0.9\n",
    )
    columns = "average_accuracy,average_accuracy_std,learning_accuracy,learning_accuracy_std"
    numbers = "naive,2,0.65,0.07,0.7,0.0\nrotated-digits,tag,1,0.8,,0.9,"
    write_text(tmp_path / "metrics/summary.csv", f"benchmark,method,seeds,{columns}\nrotated-digits,{numbers}\n")
    write_text(tmp_path / "figures/report.md", "# report\n")
    write_text(tmp_path / "figures/eigenvalues.png", "picture")
    for run, seconds in (("naive-1", 3.0), ("tag-1", 5.0)):
        write_json(tmp_path / f"logs/train/{run}.json", {"seconds": seconds, "machine": {"processor": "any"}})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_record_holds_runs_with_seconds_report_figures_and_machine(finished: Path) -> None:
    edit(finished / "params.yaml", "benchmark: rotated-digits", "benchmark: split-cifar100")  # for the next run
    record.record("digits")
    folder = finished / "results" / "digits"
    runs = pd.read_csv(folder / "runs.csv")
    assert runs["seconds"].fillna(-1).tolist() == [3.0, -1, 5.0]
    assert runs["average_accuracy"].tolist() == [0.6, 0.7, 0.8]
    assert {path.name for path in folder.iterdir()} == {
        "runs.csv", "summary.csv", "report.md", "eigenvalues.png", "cost.png", "machine.json",
    }  # fmt: skip
    assert "(cost.png)" in (folder / "report.md").read_text()
    told = json.loads((folder / "machine.json").read_text())
    assert told["machines"] == [{"processor": "any"}]
    assert told["benchmark"] == "rotated-digits"


def test_seconds_of_another_run_are_left_out(finished: Path) -> None:
    """DVC restores the metrics of an earlier run, and leaves the log of the later one as it is."""
    metrics, log = finished / "metrics/runs/naive/1.json", finished / "logs/train/naive-1.json"
    write_json(metrics, {"average_accuracy": 0.6})
    write_json(log, {"seconds": 3.0, "metrics": hashlib.sha256(metrics.read_bytes()).hexdigest()})
    record.record("digits")
    assert pd.read_csv(finished / "results/digits/runs.csv")["seconds"].fillna(-1).tolist() == [3.0, -1, 5.0]
    write_json(metrics, {"average_accuracy": 0.5})
    record.record("digits")
    assert pd.read_csv(finished / "results/digits/runs.csv")["seconds"].fillna(-1).tolist() == [-1, -1, 5.0]


def test_without_logs_there_is_no_cost(finished: Path) -> None:
    shutil.rmtree(finished / "logs")
    record.record("digits")
    assert not (finished / "results/digits/cost.png").exists()
    assert "cost" not in (finished / "results/digits/report.md").read_text()


def test_nothing_is_recorded_of_what_was_not_run(finished: Path) -> None:
    (finished / "figures/report.md").unlink()
    with pytest.raises(UserError, match="run 'make repro' first"):
        record.record("digits")
    assert not (finished / "results").exists()


def test_the_seconds_of_an_eigenspectrum_stand_beside_those_of_its_training(finished: Path) -> None:
    metrics = finished / "metrics/runs/tag/1.eigenspectrum.json"
    write_json(metrics, {})
    write_json(
        finished / "logs/eigenspectrum/tag-1.json",
        {"seconds": 7.0, "metrics": hashlib.sha256(metrics.read_bytes()).hexdigest()},
    )
    write_text(finished / "figures/of_another_project.png", "picture")
    record.record("digits")
    listed = pd.read_csv(finished / "results/digits/runs.csv")
    assert listed["seconds"].fillna(-1).tolist() == [3.0, -1, 5.0]
    assert listed["eigenspectrum_seconds"].fillna(-1).tolist() == [-1, -1, 7.0]
    record.record("digits")  # its own folder, with no file that it would not know
    assert not (finished / "results/digits/of_another_project.png").exists()


def test_a_record_does_not_take_a_folder_that_is_not_one(finished: Path) -> None:
    write_text(finished / "results/digits/report.md", "of an experiment")
    with pytest.raises(UserError, match="not made by this command"):
        record.record("digits")
    assert (finished / "results/digits/report.md").read_text() == "of an experiment"


def test_a_record_tells_that_its_code_was_not_committed(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = Clone(finished)
    clone.run("git", "init", "--quiet")
    clone.commit("base")
    assert not record.commit().endswith("-dirty")
    (finished / "params.yaml").write_text("other", encoding="utf-8")
    assert record.commit().endswith("-dirty")
    for name, value in (("GLOBAL", os.devnull), ("SYSTEM", os.devnull)):  # which may allow every folder
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # as in a container, over another user's files
    with pytest.raises(UserError, match="dubious ownership"):
        record.commit()


def test_where_there_is_no_commit_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert record.commit() == "unknown"
    Clone(tmp_path).run("git", "init", "--quiet")
    assert record.commit() == "unknown"
