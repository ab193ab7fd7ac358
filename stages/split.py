"""Stage `split`: runs/data.yaml + data/raw/ -> data/tasks/.

Makes the tasks of the stream from the raw images.
"""

from __future__ import annotations

from stages.process import begin

begin(__name__)

from functools import partial
from pathlib import Path

from tqdm import tqdm

from pipeline.config import read_data_plan
from pipeline.datasets.raw import read_raw, read_sources
from pipeline.streams.writer import write_tasks
from pipeline.support.errors import run_stage
from pipeline.support.files import whole_folder


def main() -> None:
    """Make and write every task."""
    plan = read_data_plan("runs/data.yaml")
    raw, sources = read_raw(Path("data/raw")), read_sources(Path("data/raw"))
    with whole_folder("data/tasks") as folder:
        write_tasks(folder, plan, raw, sources, partial(tqdm, desc="split", unit="task", disable=None, leave=False))


if __name__ == "__main__":
    run_stage("split", main)
