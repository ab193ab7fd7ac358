"""What the stages of one run (a method with a seed) share: arguments, paths and the log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.arguments import name, seed
from pipeline.config.reading import read_yaml
from pipeline.handover.documents import write_document
from pipeline.handover.logs import Log
from pipeline.support.errors import UserError
from pipeline.support.files import digest


@dataclass(frozen=True)
class RunFiles:
    """One run: a method with a seed."""

    method: str
    seed: int

    @property
    def name(self) -> str:
        """The part after the @ in the names of the run's stages, such as naive-1."""
        return f"{self.method}-{self.seed}"

    @property
    def plan(self) -> Path:
        """File of the method's resolved plan."""
        return Path("runs") / f"{self.method}.yaml"

    @property
    def checkpoints(self) -> Path:
        """Folder of the run's checkpoints, one for each task."""
        return Path("models") / self.method / str(self.seed)

    @property
    def metrics(self) -> Path:
        """File of the run's accuracy matrix and metrics."""
        return Path("metrics/runs") / self.method / f"{self.seed}.json"

    @property
    def eigenspectrum(self) -> Path:
        """File of the run's eigenvalues."""
        return Path("metrics/runs") / self.method / f"{self.seed}.eigenspectrum.json"

    def scratch(self, stage: str) -> Path:
        """Folder in which a stage keeps its state, to resume from after an interruption. It is not a DVC output."""
        return Path("scratch") / stage / self.name

    @contextmanager
    def logged(self, stage: str) -> Iterator[dict[str, Any]]:
        """Time the block and write the log of a stage to logs/, with whatever the block adds to it.

        What is logged differs each time a run is repeated, so the log is not a DVC output. If the block adds
        `seconds_before`, the seconds of an interrupted process whose state it resumed from, `seconds` includes them. If
        the block raises, nothing is written.
        """
        log: dict[str, Any] = {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        start = time.perf_counter()
        yield log
        log["seconds"] = round(time.perf_counter() - start + log.get("seconds_before", 0.0), 3)
        log["metrics"] = digest(self.metrics if stage == "train" else self.eigenspectrum)
        write_document(Log, log, Path("logs") / stage / f"{self.name}.json")


def checkpoint(folder: Path, task: int) -> Path:
    """Return the path of the weights after a task. Tasks are counted from 0 here, from 1 in the file's name."""
    return folder / f"task-{task + 1:02d}.safetensors"


def code_of(stage: str) -> list[Path]:
    """Return the project's code that a stage depends on: the files and folders that dvc.yaml lists.

    Raises:
        UserError: if dvc.yaml cannot be read or has no dependencies for the stage.
    """
    try:
        listed = read_yaml("dvc.yaml")["stages"][stage]["deps"]
    except (KeyError, TypeError):
        raise UserError(f"dvc.yaml: no dependencies of the stage '{stage}'; restore it from git") from None
    return [Path(path) for path in listed if path.startswith(("pipeline/", "stages/"))]


def run_from_arguments() -> RunFiles:
    """Read METHOD SEED from the command line.

    Raises:
        UserError: if there are not exactly these two arguments, or if one of them is not valid.
    """
    if len(sys.argv) != 3:
        raise UserError(f"usage: python -m stages.{Path(sys.argv[0]).stem} METHOD SEED, as in 'naive 1'")
    return RunFiles(name(sys.argv[1], "usage: METHOD SEED: METHOD"), seed(sys.argv[2], "usage: METHOD SEED: SEED"))
