"""The text of dvc.lock, stage by stage.

DVC reads and writes the whole file for every stage, in Python: with fifty stages that is seconds a stage, and the time
of a run grows with the square of their number. Taken apart into stages, only what has changed is parsed or written.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from functools import lru_cache
from io import StringIO
from typing import Any

from ruamel.yaml import YAML

#: What precedes the first stage in a dvc.lock that nobody has edited.
HEAD = "schema: '2.0'\nstages:\n"
#: The first line of a stage.
_NAME = re.compile(r"  ([\w.@-]+):")


def blocks(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Split a dvc.lock into what precedes the first stage, and the name and text of each stage.

    The name of a stage is indented by two spaces, the rest of its text by more.
    """
    head, *parts = re.split(r"^(?=  [^\s#])", text, flags=re.MULTILINE)
    return head, [(part.partition(":")[0].strip(), part) for part in parts]


def plain_blocks(text: str) -> list[tuple[str, str]] | None:
    """Return the name and text of each stage, or None if the text is not as DVC writes it: edited, say, or damaged."""
    head, parts = blocks(text)
    names = {name for name, _ in parts}
    if head != HEAD or len(names) < len(parts) or not text.endswith("\n"):
        return None
    for _, part in parts:
        first, *lines = part.splitlines()
        if not _NAME.fullmatch(first) or not lines or not all(line.startswith("    ") for line in lines):
            return None
    return parts


@lru_cache(maxsize=16_384)
def _parsed(block: str) -> bytes:
    (value,) = YAML(typ="safe").load(block).values()
    return pickle.dumps(value)


def parse(parts: list[tuple[str, str]]) -> dict[str, Any]:
    """Return what YAML reads in a dvc.lock of these stages. A stage that was read before is not parsed again.

    Raises:
        ruamel.yaml.YAMLError: if a stage is damaged.
    """
    stages = {name: pickle.loads(_parsed(part)) for name, part in parts}  # noqa: S301 - what `_parsed` has made
    return {"schema": "2.0", "stages": stages}


def with_stages(parts: list[tuple[str, str]], changed: Mapping[str, Any], write: Any) -> str:
    """Return the text of a dvc.lock in which some stages are replaced; new ones are added at the end.

    Args:
        parts: The name and text of each stage.
        changed: By name, the stages to replace, as DVC would write them.
        write: Writes a value to a stream as DVC writes YAML.
    """
    texts = dict(parts)
    for name, value in changed.items():
        stream = StringIO()
        write({"schema": "2.0", "stages": {name: value}}, stream)
        texts[name] = stream.getvalue().removeprefix(HEAD)
    return HEAD + "".join(texts.values())
