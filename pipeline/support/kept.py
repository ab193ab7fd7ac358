"""What a finished run keeps in scratch/ until DVC has recorded its outputs: without it, hours of work could be done again.

DVC hashes and copies the outputs after a stage has ended, and may fail or be killed then.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from pathlib import Path

from filelock import FileLock, Timeout

#: The file that says so, in the run's folder.
FINISHED = "finished.json"
#: Seconds after which other runs remove it: where DVC has recorded the outputs, and where it never has. `tag-pipeline repro`
#: removes it at once; DVC alone does not.
KEPT, UNRECORDED = 3600.0, 30 * 86400.0


def recorded(text: str) -> bool:
    """Whether dvc.lock, of the present folder, has an output with this text."""
    lock = Path("dvc.lock")
    found = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    return lock.exists() and found in lock.read_text(encoding="utf-8")


def forget(folder: Path) -> None:
    """Empty the folder of a finished run, unless a process is working there."""
    if (folder / FINISHED).exists():
        with contextlib.suppress(Timeout), FileLock(folder.parent / f"{folder.name}.lock", timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)


def forget_old(folder: Path) -> None:
    """Empty the folders of all runs below `folder` that have finished long ago."""
    for finished in folder.glob(f"*/{FINISHED}"):
        with contextlib.suppress(OSError):
            age = time.time() - finished.stat().st_mtime
            if age > UNRECORDED or (age > KEPT and _no_longer_needed(finished)):
                forget(finished.parent)


def _no_longer_needed(finished: Path) -> bool:
    """Whether DVC has recorded what a run has made, or what was kept of it is damaged."""
    try:
        return recorded(json.loads(finished.read_text(encoding="utf-8"))["text"])
    except (ValueError, KeyError, TypeError):
        return True
