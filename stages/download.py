"""download: runs/data.yaml -> data/raw/, the datasets' images in canonical order, and data/weights/, checked."""

from __future__ import annotations

from stages.process import begin

begin(__name__)

from pipeline.config import read_data_plan
from pipeline.datasets.raw_writer import write_raw
from pipeline.datasets.weights import write_weights
from pipeline.support.errors import run_stage
from pipeline.support.files import whole_folder


def main() -> None:
    """Fetch, check, write."""
    plan = read_data_plan("runs/data.yaml")
    with whole_folder("data/raw") as raw, whole_folder("data/weights") as weights:
        write_raw(raw, plan.datasets)
        write_weights(weights, plan.weights)


if __name__ == "__main__":
    run_stage("download", main)
