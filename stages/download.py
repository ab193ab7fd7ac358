"""Stage `download`: runs/data.yaml -> data/raw/, data/weights/.

Fetches and checks the images of the benchmark's datasets, in canonical order, and its initial weights, if it has any.
"""

from __future__ import annotations

from stages.process import begin

begin(__name__)

from pipeline.config import read_data_plan
from pipeline.datasets.raw_writer import write_raw
from pipeline.datasets.weights import write_weights
from pipeline.support.errors import run_stage
from pipeline.support.files import whole_folder


def main() -> None:
    """Fetch, check and write the datasets and the initial weights."""
    plan = read_data_plan("runs/data.yaml")
    with whole_folder("data/raw") as raw, whole_folder("data/weights") as weights:
        write_raw(raw, plan.datasets)
        write_weights(weights, plan.weights)


if __name__ == "__main__":
    run_stage("download", main)
