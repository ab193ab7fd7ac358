"""What lets a killed run go on: its whole state in scratch/, which is no DVC output.

A state is keyed by everything that makes the run what it is (plan, data, code, seed, kind of machine): one of another key is
refused, and the run starts over. It is written whole and renamed. While a process works on a run it holds a lock, which the
system gives back however the process ends, so that no second one writes beside it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from filelock import FileLock, Timeout

from pipeline.support.errors import UserError
from pipeline.support.files import whole_file

#: Seconds between two states within a task.
INTERVAL = 120.0
#: The same, for tests of runs that are over sooner.
VARIABLE = "TAG_SAVE_SECONDS"


def fingerprint(files: Iterable[Path], *words: object) -> str:
    """sha256 of the contents of files (of folders: every .py file in them, by name) and of words."""
    digest = hashlib.sha256()
    for path in files:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.as_posix()}\0".encode())
            digest.update(file.read_bytes())
    digest.update(repr(words).encode())
    return digest.hexdigest()


def _interval() -> float:
    """Seconds between two states. Raises UserError where the environment says no such number."""
    given = os.environ.get(VARIABLE)
    try:
        seconds = float(given) if given else INTERVAL
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise UserError(f"{VARIABLE}: must be a number of seconds from 0 up, is '{given}'; fix or unset it")
    return seconds


class Scratch:
    """A place for the state of one run, to be used in a with block.

    folder: below which the run keeps what it has so far. key: of `fingerprint`. name: of the run, for what is told.
    seconds_before: what earlier processes spent on the state that this one went on from.
    Raises UserError on entry where another process works on the same run.
    """

    def __init__(self, folder: Path, key: str, name: str) -> None:
        self.folder, self.key, self.name = folder, key, name
        self.state = folder / "state.pt"
        self.interval = _interval()
        self.begun = self.saved = time.monotonic()
        self.resumed, self.seconds_before = False, 0.0
        self._lock = FileLock(folder.parent / f"{folder.name}.lock", timeout=0)

    def __enter__(self) -> Scratch:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise UserError(
                f"{self.name}: another process is working on it ({self._lock.lock_file} is locked); wait for it or end it"
            ) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.release()

    def load(self) -> dict[str, Any] | None:
        """The state to go on from; None, and an empty folder, where there is none that fits, which is told."""
        reason = ""
        if self.state.exists():
            try:
                held: dict[str, Any] = torch.load(self.state, map_location="cpu", weights_only=True)
                if held["key"] == self.key:
                    print(f"{self.name}: going on from {held['told']}", file=sys.stderr)
                    self.resumed, self.seconds_before = True, held["seconds"]
                    return held
                reason = "is of another plan, data or code"
            except Exception as error:  # a truncated file fails in many ways
                reason = f"cannot be read ({type(error).__name__})"
            print(f"{self.name}: {self.state} {reason}: starting over", file=sys.stderr)
        self.clear()
        return None

    def due(self) -> bool:
        """Whether enough time has passed since the last state."""
        return time.monotonic() - self.saved >= self.interval

    def save(self, told: str, state: dict[str, Any]) -> None:
        """Keep `state` (tensors, numbers, words, and containers of them). told: how far it is, for people."""
        seconds = self.seconds_before + time.monotonic() - self.begun
        with whole_file(self.state) as partial, partial.open("wb") as file:
            try:
                torch.save({**state, "key": self.key, "told": told, "seconds": seconds}, file)
            except RuntimeError as error:  # what a write that failed becomes on its way through PyTorch
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
        self.saved = time.monotonic()

    def clear(self) -> None:
        """Forget everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
