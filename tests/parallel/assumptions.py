"""What a test of the installed DVC says where an assumption no longer holds."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable

VERSION = importlib.metadata.version("dvc")


def holds(condition: object, assumption: str, function: Callable[..., object] | str) -> None:
    """Fail with the assumption and where it is made."""
    where = function if isinstance(function, str) else f"{function.__qualname__} in {function.__module__}"
    assert condition, f"DVC {VERSION}: {assumption} no longer holds; see {where}"
