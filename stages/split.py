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
from pipeline.datasets.raw import read_classes, read_raw, read_sources
from pipeline.streams.writer import write_tasks
from pipeline.support.errors import run_stage
from pipeline.support.files import whole_folder


def main() -> None:
    """Make and write every task."""
    plan = read_data_plan("runs/data.yaml")
    source = Path("data/raw")
    raw, sources, classes = read_raw(source), read_sources(source), read_classes(source)
    progress = partial(tqdm, desc="split", unit="task", disable=None, leave=False)
    with whole_folder("data/tasks") as folder:
        write_tasks(folder, plan, raw, sources, progress, classes)


if __name__ == "__main__":
    run_stage("split", main)
