"""What the report of an experiment says of the machines of its runs."""

from __future__ import annotations

from typing import Any

from pipeline.experiments.report import on_gpus


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
