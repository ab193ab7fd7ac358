"""Waiting for what other processes do: for a file, a lock, a message, and never for a number of seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

#: Seconds. Ends a test that would wait for ever; on a machine that is merely slow or busy it is never reached.
LIMIT = 600.0


def wait_until(condition: Callable[[], bool], every: float = 0.05) -> None:
    """Return once the condition holds. every: seconds between two looks at it."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"still waiting after {LIMIT:.0f} s"
        time.sleep(every)


def wait_for_versions(path: Path, count: int, over: Callable[[], bool]) -> None:
    """Return once a file has been seen to be made or replaced `count` times, or `over` says that nobody will do so."""
    seen: set[tuple[int, int]] = {version} if (version := _version(path)) else set()
    wanted = len(seen) + count

    def enough() -> bool:
        if version := _version(path):
            seen.add(version)
        return len(seen) >= wanted or over()

    wait_until(enough, every=0.002)


def _version(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
