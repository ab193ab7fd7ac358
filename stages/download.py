"""download: runs/data.yaml -> data/raw/, the dataset's images in canonical order, checked."""

from __future__ import annotations

from pipeline.benchmarks.sources import fetch_into
from pipeline.benchmarks.store import write_raw
from pipeline.config import read_data_plan
from pipeline.errors import run_stage
from pipeline.files import whole_folder


def main() -> None:
    """Fetch, check, write."""
    plan = read_data_plan("runs/data.yaml")
    with whole_folder("data/raw") as folder:
        write_raw(folder, plan.dataset, fetch_into(folder, plan.dataset))


if __name__ == "__main__":
    run_stage("download", main)
