"""Work that one process at a time may do in a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.support.errors import UserError


@contextlib.contextmanager
def alone(lock: Path, refusal: str) -> Iterator[None]:
    """Hold a lock during the block. The system releases it when the process ends, however it ends.

    Args:
        lock: The file to lock; its folder is created.
        refusal: What to tell the user if another process holds it.

    Raises:
        UserError: with `refusal`, at once, if another process holds the lock.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock, timeout=0)
    try:
        held.acquire()
    except Timeout:
        raise UserError(refusal) from None
    try:
        yield
    finally:
        held.release()
