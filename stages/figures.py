"""figures: plots/*.csv and the first images of data/tasks/ -> figures/*.png."""

from __future__ import annotations

from pathlib import Path

from pipeline.benchmarks.store import Tasks
from pipeline.config import read_configuration
from pipeline.errors import run_stage
from pipeline.figures import draw_all, read_tables
from pipeline.files import whole_folder


def main() -> None:
    """Draw every figure."""
    options = read_configuration().params.figures
    tables, tasks = read_tables(Path("plots")), Tasks.open("data/tasks")
    with whole_folder("figures") as folder:
        draw_all(tables, options, folder, (tasks.first_images(), tasks.names))


if __name__ == "__main__":
    run_stage("figures", main)
