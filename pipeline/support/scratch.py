"""Saved states that let a killed run resume: they are kept in scratch/, which is not a DVC output.

A state carries a key made from everything that determines the run (plan, data, code, seed, kind of machine). If the key
does not match, the state is discarded and the run starts over. States are written atomically. While a process works on
a run it holds a lock, so that no second process can work on it; the system releases the lock however the process ends.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from filelock import FileLock, Timeout

from pipeline.support.errors import UserError, memory_ended, note
from pipeline.support.files import digest, whole_file
from pipeline.support.kept import FINISHED, forget_old, recorded

#: Seconds between two saved states within a task.
INTERVAL = 120.0
#: The environment variable that overrides it, for tests with shorter runs.
VARIABLE = "TAG_SAVE_SECONDS"
#: The environment variable in which DVC gives the commands that it runs the name of their stage.
STAGE = "DVC_STAGE"
#: Errors of the system that say nothing about the file. Of one that is cut off, PyTorch says "invalid argument" (EINVAL).
PASSING = (errno.EIO, errno.ESTALE, errno.EACCES, errno.EPERM, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


def fingerprint(files: Iterable[Path], *words: object) -> str:
    """Compute the key of a state: the SHA-256 of the paths and contents of files and of further values.

    Args:
        files: Files, and folders, which stand for all .py files below them.
        words: Further values, which enter by their `repr`.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for path in files:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.as_posix()}\0".encode())
            digest.update(file.read_bytes())
    digest.update(repr(words).encode())
    return digest.hexdigest()


def _interval() -> float:
    """Seconds between two states. Raises UserError if the environment variable is not a number of at least 0."""
    given = os.environ.get(VARIABLE)
    try:
        seconds = float(given) if given else INTERVAL
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise UserError(f"{VARIABLE}: must be a number of seconds from 0 up, is '{given}'; fix or unset it")
    return seconds


class Scratch:
    """The saved state of one run, to be used as a context manager that holds the lock on the run.

    Entering raises UserError if another process is working on the same run.

    Args:
        folder: Where the state is kept; the run may keep other intermediate files there.
        key: The key that a state must have to be resumed from, see `fingerprint`.
        name: The name of the run in messages.

    Attributes:
        resumed: Whether `load` found a state to resume from.
        seconds_before: The seconds that earlier processes spent to reach that state; 0 without one.

    Raises:
        UserError: if the environment variable TAG_SAVE_SECONDS is not a number of at least 0.
    """

    def __init__(self, folder: Path, key: str, name: str) -> None:
        self.folder, self.key, self.name = folder, key, name
        self.state, self.finished = folder / "state.pt", folder / FINISHED
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
        forget_old(self.folder.parent)  # not this run's: its lock is held
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.release()

    def load(self) -> dict[str, Any] | None:
        """Load the state to resume from, with its tensors on the CPU.

        Prints a line on stderr that says from where the run resumes, or why an existing state cannot be used.

        Returns:
            The state, or None if there is none with the right key. The folder is emptied in that case.

        Raises:
            MemoryError, RuntimeError: if there is too little memory to read it.
            OSError: if the system does not let it be read.
        """
        reason = ""
        if self.state.exists():
            try:
                held: dict[str, Any] = torch.load(self.state, map_location="cpu", weights_only=True)
                if held["key"] == self.key:
                    note(self.name, f"resuming from {held['reached']}")
                    self.resumed, self.seconds_before = True, held["seconds"]
                    return held
                reason = "belongs to a different plan, data or code"
            except Exception as error:  # a truncated file fails in many ways
                # One that could not be read now may be whole: hours of work are not thrown away for want of memory.
                if memory_ended(error) or (isinstance(error, OSError) and error.errno in PASSING):
                    raise
                reason = f"cannot be read ({type(error).__name__})"
            note(self.name, f"{self.state} {reason}: starting over")
        self.clear()
        return None

    def due(self) -> bool:
        """Whether enough time has passed since the last saved state for another one."""
        return time.monotonic() - self.saved >= self.interval

    def save(self, reached: str, state: dict[str, Any]) -> None:
        """Save a state.

        Args:
            reached: How far the run has got, for the message when it resumes.
            state: Tensors, numbers, strings and containers of them.

        Raises:
            OSError: if the state cannot be written, such as when the disk is full.
        """
        seconds = self.seconds_before + time.monotonic() - self.begun
        with whole_file(self.state, durable=True) as partial, partial.open("wb") as file:
            try:
                torch.save({**state, "key": self.key, "reached": reached, "seconds": seconds}, file)
            except RuntimeError as error:  # PyTorch turns a failed write into this
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
        self.saved = time.monotonic()

    def finish(self, text: str, keep_state: bool) -> None:
        """Keep what a run has made until DVC has recorded it. Called before the outputs are written.

        DVC hashes and copies the outputs after the stage has ended, and may fail or be killed then: hours of work would be
        done again.

        Args:
            text: The output that tells the run: its metrics.
            keep_state: Whether the outputs are written from the saved state, too, and not from other files of the folder.
        """
        seconds = self.seconds_before + time.monotonic() - self.begun
        left_out = {self.finished} if keep_state else {self.finished, self.state}
        sums = {path.name: digest(path) for path in self.folder.iterdir() if path.is_file() and path not in left_out}
        held = {"key": self.key, "seconds": seconds, "sums": sums, "text": text}
        with whole_file(self.finished, durable=True) as partial:
            partial.write_text(json.dumps(held), encoding="utf-8")
        if not keep_state:  # not before: a run that is killed between the two goes on from its state
            self.state.unlink(missing_ok=True)

    def settle(self) -> None:
        """Remove what was kept where no DVC runs the stage, and so none will record it. Called after the outputs."""
        if STAGE not in os.environ:
            self.clear()

    def unrecorded(self) -> str | None:
        """The text of a run that has finished, and that DVC has not recorded since; None if there is none.

        One that DVC has recorded is removed: whoever runs it again (`dvc repro --force`) wants it done again.

        Raises:
            OSError: if the system does not let it be read.
        """
        if not self.finished.exists():
            return None
        try:
            held = json.loads(self.finished.read_text(encoding="utf-8"))
            text: str = held["text"]
            whole = all(digest(self.folder / name) == found for name, found in held["sums"].items())
            if STAGE in os.environ and held["key"] == self.key and whole and not recorded(text):
                note(self.name, "had finished, and DVC did not record it: written again")
                self.resumed, self.seconds_before = True, float(held["seconds"])
                return text
        except OSError as error:
            if error.errno in PASSING:  # it may be whole, as a state that cannot be read now
                raise
        except (ValueError, KeyError, TypeError):
            pass
        self.clear()
        return None

    def clear(self) -> None:
        """Remove everything in the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
