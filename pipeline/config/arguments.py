"""Checks of command-line arguments.

A wrong argument gives a one-line error, and names are restricted so that none can lead outside the folder of a command.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from pipeline.config.types import Name, Seed, Threads
from pipeline.support.errors import UserError

_NUMBER = re.compile("[0-9]{1,19}")


#: The quota of processor time of a container: "200000 100000" are two cores. Of cgroups 2, and of their first version.
QUOTA = Path("/sys/fs/cgroup/cpu.max")
OLD_QUOTA = (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))


def cores() -> int:
    """Count the cores that this process may use, by its affinity and by the quota of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        words = QUOTA.read_text().split() if QUOTA.exists() else [path.read_text() for path in OLD_QUOTA]
        quota, period = map(int, words)  # "max", or below 0: no quota
    except (OSError, ValueError):
        return allowed
    return max(1, min(allowed, quota // period)) if quota > 0 < period else allowed


def name(text: str, what: str) -> str:
    """Check the name of a method, an experiment or a record, which becomes a file name.

    Args:
        text: The argument.
        what: What the error message calls the argument.

    Returns:
        The name, unchanged.

    Raises:
        UserError: if the name has more than 80 characters, or any but lower-case letters, digits and single dashes.
    """
    try:
        return TypeAdapter[str](Name).validate_python(text)
    except ValidationError:
        raise UserError(f"{what} '{text[:80]}': use lower-case letters, digits and single dashes, at most 80") from None


def seed(text: str, what: str) -> int:
    """Parse a seed.

    Args:
        text: The argument, in decimal digits.
        what: What the error message calls the argument.

    Raises:
        UserError: if the text is not a whole number from 0 to 2^63 - 1.
    """
    try:
        return _within(Seed, text)
    except ValueError:
        raise UserError(f"{what} '{text[:80]}': must be a whole number from 0 to {2**63 - 1}") from None


def seeds(text: str, what: str) -> list[int]:
    """Parse a comma-separated list of seeds, such as 1,2,3.

    Args:
        text: The argument.
        what: What the error message calls the argument.

    Raises:
        UserError: if a seed is invalid or appears twice.
    """
    found = [seed(word, what) for word in text.split(",")]
    if len(set(found)) < len(found):
        raise UserError(f"{what} {text[:80]}: a seed stands twice; name each once")
    return found


def jobs(text: str, what: str) -> int:
    """Parse the number of jobs that may run in parallel.

    Args:
        text: The argument, in decimal digits.
        what: What the error message calls the argument.

    Raises:
        UserError: if the text is not a whole number from 1 to 1024.
    """
    try:
        return _within(Threads, text)
    except ValueError:
        raise UserError(f"{what} '{text[:80]}': must be a whole number from 1 to 1024") from None


def _within(kind: Annotated[Any, "a type of whole numbers"], text: str) -> int:
    if not _NUMBER.fullmatch(text):  # int() also accepts underscores, spaces and the digits of every script
        raise ValueError
    return TypeAdapter[int](kind).validate_python(int(text))
