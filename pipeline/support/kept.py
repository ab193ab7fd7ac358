"""What a finished run keeps in scratch/ until DVC has recorded its outputs: without it, hours of work could be done again.

DVC hashes and copies the outputs after a stage has ended, and may fail or be killed then.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

from filelock import FileLock, Timeout

#: The file that says so, in the run's folder.
FINISHED = "finished.json"
#: Seconds after which other runs remove it. `tag-pipeline repro` removes it at once; DVC alone does not.
KEPT = 3600.0


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
            if time.time() - finished.stat().st_mtime > KEPT:
                forget(finished.parent)
