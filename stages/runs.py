"""What the stages of one run (a method with a seed) share: its arguments, its places, its log."""

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


@dataclass(frozen=True)
class Run:
    """One method with one seed."""

    method: str
    seed: int

    @property
    def name(self) -> str:
        """As DVC names it after the @."""
        return f"{self.method}-{self.seed}"

    @property
    def plan(self) -> Path:
        """Its resolved plan."""
        return Path("runs") / f"{self.method}.yaml"

    @property
    def checkpoints(self) -> Path:
        """Its folder of checkpoints."""
        return Path("models") / self.method / str(self.seed)

    @property
    def metrics(self) -> Path:
        """Its accuracy matrix and metrics."""
        return Path("metrics/runs") / self.method / f"{self.seed}.json"

    @property
    def eigenspectrum(self) -> Path:
        """Its eigenvalues."""
        return Path("metrics/runs") / self.method / f"{self.seed}.eigenspectrum.json"

    def scratch(self, stage: str) -> Path:
        """Where a stage keeps what it has so far: no DVC output."""
        return Path("scratch") / stage / self.name

    @contextmanager
    def logged(self, stage: str) -> Iterator[dict[str, Any]]:
        """Write seconds, and what the block adds, to logs/: they differ from run to run, so they are no DVC output.

        Where the block adds `seconds_before`, those of an interrupted process whose state it went on from, they count.
        """
        log: dict[str, Any] = {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        start = time.perf_counter()
        yield log
        log["seconds"] = round(time.perf_counter() - start + log.get("seconds_before", 0.0), 3)
        write_document(Log, log, Path("logs") / stage / f"{self.name}.json")


def checkpoint(folder: Path, task: int) -> Path:
    """The weights after a task (from 0)."""
    return folder / f"task-{task + 1:02d}.safetensors"


def code_of(stage: str) -> list[Path]:
    """The project's files that a stage depends on, as dvc.yaml lists them. Raises UserError."""
    try:
        listed = read_yaml("dvc.yaml")["stages"][stage]["deps"]
    except (KeyError, TypeError):
        raise UserError(f"dvc.yaml: no dependencies of the stage '{stage}'; restore it from git") from None
    return [Path(path) for path in listed if path.startswith(("pipeline/", "stages/"))]


def run_from_arguments() -> Run:
    """METHOD SEED from the command line. Raises UserError."""
    if len(sys.argv) != 3:
        raise UserError(f"usage: python -m stages.{Path(sys.argv[0]).stem} METHOD SEED, as in 'naive 1'")
    return Run(name(sys.argv[1], "usage: METHOD SEED: METHOD"), seed(sys.argv[2], "usage: METHOD SEED: SEED"))
