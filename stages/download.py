"""download: runs/data.yaml -> data/raw/, the datasets' images in canonical order, and data/weights/, checked."""

from __future__ import annotations

from pipeline.process import begin

begin(__name__)

from pipeline.benchmarks.raw_writer import write_raw
from pipeline.benchmarks.weights import write_weights
from pipeline.config import read_data_plan
from pipeline.errors import run_stage
from pipeline.files import whole_folder


def main() -> None:
    """Fetch, check, write."""
    plan = read_data_plan("runs/data.yaml")
    with whole_folder("data/raw") as raw, whole_folder("data/weights") as weights:
        write_raw(raw, plan.datasets)
        write_weights(weights, plan.weights)


if __name__ == "__main__":
    run_stage("download", main)
