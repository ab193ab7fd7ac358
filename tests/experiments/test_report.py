"""What the report of an experiment says of the machines and seconds of its runs."""

from __future__ import annotations

from typing import Any

from pipeline.experiments.experiments import read_experiments
from pipeline.experiments.report import _how, on_gpus
from tests.paths import ROOT

EXPERIMENTS = read_experiments(ROOT)


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
