"""What is written of an experiment, and what its report says of the machines and seconds of its runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.experiments import report as written
from pipeline.experiments.command import _records
from pipeline.experiments.experiments import configured, read_experiments
from pipeline.experiments.report import _how, on_gpus
from pipeline.figures import FIGURES
from tests.configuration import project
from tests.paths import ROOT

EXPERIMENTS = read_experiments(ROOT)
WRITTEN = [name for name in EXPERIMENTS if (ROOT / "results" / name / "report.md").exists()]


def record(device: str) -> dict[str, Any]:
    return {"machine": {"device": device}}


def test_the_runs_on_a_gpu_are_named_with_their_seeds() -> None:
    records = {("tag", 2): record("NVIDIA X"), ("tag", 1): record("NVIDIA X"), ("er", 1): record("cpu")}
    assert on_gpus(records) == ["Runs on NVIDIA X, with their seeds: tag (1, 2). All others on a CPU."]
    records["er", 1] = record("NVIDIA Y")
    assert on_gpus(records) == [
        "Runs on NVIDIA X, with their seeds: tag (1, 2).",
        "Runs on NVIDIA Y, with their seeds: er (1).",
    ]


def test_runs_of_which_no_machine_is_known_are_not_counted_as_those_of_a_cpu() -> None:
    records = {("tag", 1): record("NVIDIA X"), ("er", 1): {"machine": {}}, ("er", 2): record("cpu")}
    assert on_gpus(records) == [
        "Runs on NVIDIA X, with their seeds: tag (1).",
        "Runs on machines that are not known, with their seeds: er (1). All others on a CPU.",
    ]


def test_nothing_is_said_where_all_ran_on_a_cpu_or_a_record_does_not_tell() -> None:
    assert on_gpus({("tag", 1): record("cpu"), ("er", 1): {"machine": {}}}) == []


def test_the_report_of_an_experiment_tells_the_median_of_the_seconds_that_are_known() -> None:
    experiment = EXPERIMENTS["stable-sgd-1-rotated"]
    table = experiment.tables[0]
    records = {
        (table.methods[0], seed): {"machine": {"processor": "any", "threads": 1, "torch": "2"}, "commit": "a" * 40,
                                   "seconds": seconds}
        for seed, seconds in zip(table.seeds, (10.0, 20.0, 90.0, None, None), strict=False)
    }  # fmt: skip
    section = _how(experiment, records)
    assert section.table is not None
    assert section.table.rows[0] == [table.methods[0], table.title, f"{len(records)} of {len(table.seeds)}", "20"]
    assert section.text[0] == f"Machines: any, 1 thread, torch 2. Commits: {'a' * 12}."


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_of_an_experiment_is_what_its_records_give(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the pictures, which take minutes; and those of an earlier version are gone."""
    monkeypatch.chdir(ROOT)
    committed, made = ROOT / "results" / name, tmp_path / name
    configuration = configured(project(), name, EXPERIMENTS[name])
    records = _records(name, EXPERIMENTS[name], configuration)
    drawn = [figure for figure in FIGURES if (committed / f"{figure}.png").exists()]
    monkeypatch.setattr(written, "RESULTS", tmp_path)
    monkeypatch.setattr(written, "draw_all", lambda *_: drawn)
    made.mkdir()
    (made / "alpha_heat_map.png").touch()
    written.write_results(name, EXPERIMENTS[name], configuration, records)
    assert not (made / "alpha_heat_map.png").exists()
    for file in ("report.md", "runs.csv", "summary.csv", "summary.json", "settings.yaml"):
        assert (made / file).read_text(encoding="utf-8") == (committed / file).read_text(encoding="utf-8"), (
            f"{file}: run 'tag-pipeline reproduce {name} --report'"
        )
