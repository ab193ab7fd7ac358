"""The text of dvc.lock, stage by stage.

DVC reads and writes the whole file for every stage, in Python: with fifty stages that is seconds a stage, and the time
of a run grows with the square of their number. Taken apart into stages, only what has changed is parsed or written.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from io import StringIO
from typing import Any

from ruamel.yaml import YAML

#: The file in which DVC records what each stage was run with.
LOCK = "dvc.lock"
#: What precedes the first stage in a dvc.lock that nobody has edited.
HEAD = "schema: '2.0'\nstages:\n"
#: The end of a line before the name of a stage. (A pattern that begins with "^" takes five times as long.)
_BEFORE_NAME = re.compile(r"\n(?=  [^\s#])")
#: A stage as DVC writes it: its name, then lines that are indented by more. A line ends where `str.splitlines` ends it.
_STAGE = re.compile(r"  [\w.@-]+:\n(?:    [^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]*\n)+")


def blocks(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Split a dvc.lock into what precedes the first stage, and the name and text of each stage.

    The name of a stage is indented by two spaces, the rest of its text by more.
    """
    *lines, last = _BEFORE_NAME.split("\n" + text)
    head, *parts = [*(part + "\n" for part in lines), last]
    return head[1:], [(part.partition(":")[0].strip(), part) for part in parts]


def plain_blocks(text: str) -> list[tuple[str, str]] | None:
    """Return the name and text of each stage, or None if the text is not as DVC writes it: edited, say, or damaged."""
    head, parts = blocks(text)
    names = {name for name, _ in parts}
    if head != HEAD or len(names) < len(parts) or not text.endswith("\n"):
        return None
    return parts if all(_is_plain(part) for _, part in parts) else None


@lru_cache(maxsize=16_384)
def _is_plain(part: str) -> bool:
    return _STAGE.fullmatch(part) is not None


#: What DVC writes without quotes and every YAML reads as text: words that begin with a letter, paths, and checksums that
#: hold a letter which no number has.
_WORD = re.compile(r"(?=[\da-f]*[abcdf])[\da-f]{32}(?:\.dir)?|[A-Za-z][\w./@-]*(?: [\w./@-]+)*", re.ASCII)
_WHOLE, _FRACTION = re.compile(r"0|[1-9]\d*", re.ASCII), re.compile(r"\d+\.\d+", re.ASCII)
#: Words that every YAML takes for something else than text, and those that only some do.
_CONSTANTS = {"true": True, "false": False, "null": None}
_DOUBTFUL = {*_CONSTANTS, "yes", "no", "on", "off", "y", "n"}
#: The key that a line begins with.
_KEY = re.compile(r"([A-Za-z_][\w./@-]*):(?: |$)", re.ASCII)


class _NotPlainError(Exception):
    """A stage holds more than `plainly` reads."""


def _value(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _FRACTION.fullmatch(text):
        return float(text)
    if _WORD.fullmatch(text) and text.lower() not in _DOUBTFUL:
        return text
    raise _NotPlainError


class _Lines:
    """The lines of a stage, read from the first to the last.

    Args:
        block: The text of the stage.

    """

    def __init__(self, block: str) -> None:
        self.lines: list[tuple[int, bool, str | None, str | None]] = []
        for line in block.splitlines():
            indent = len(line) - len(line.lstrip(" "))
            dash = line.startswith("- ", indent)
            text = line[indent + 2 * dash :]
            match = _KEY.match(text)
            key, value = (match[1], text[match.end() :] or None) if match else (None, text)
            self.lines.append((indent + 2 * dash, dash, key, value))
        self.at = 0

    def mapping(self) -> dict[str, Any]:
        """Read the mapping that begins at the present line."""
        indent = self.lines[self.at][0]
        found: dict[str, Any] = {}
        while self.at < len(self.lines) and self.lines[self.at][0] == indent:
            _, dash, key, text = self.lines[self.at]
            if dash and found:
                break  # the next one in a list
            if key is None or key in found or key.lower() in _DOUBTFUL:
                raise _NotPlainError
            self.at += 1
            found[key] = self.below(indent + 2) if text is None else _value(text)
        return found

    def below(self, indent: int) -> Any:
        """Read the list or mapping that belongs to the key of the line before; None if there is none.

        DVC does not indent a dash.
        """
        next_indent = self.lines[self.at][0] if self.at < len(self.lines) else 0
        if next_indent < indent:
            return None
        if next_indent > indent:
            raise _NotPlainError
        if not self.lines[self.at][1]:
            return self.mapping()
        items: list[Any] = []
        while self.at < len(self.lines) and self.lines[self.at][:2] == (indent, True):
            _, _, key, text = self.lines[self.at]
            if key is None:
                self.at += 1
                items.append(_value(text or ""))
            else:
                items.append(self.mapping())
        return items


def plainly(block: str) -> Any:
    """Return what YAML reads in a stage of dvc.lock, many times as fast, or None if it holds anything unusual.

    Nearly every stage is mappings and lists of words and numbers, one a line.
    """
    lines = _Lines(block)
    try:
        found = lines.mapping()
    except _NotPlainError:
        return None
    return found if lines.at == len(lines.lines) and len(found) == 1 else None


@lru_cache(maxsize=16_384)
def _parsed(block: str) -> bytes:
    whole = plainly(block)
    (value,) = (YAML(typ="safe").load(block) if whole is None else whole).values()
    return pickle.dumps(value)


def parse(parts: list[tuple[str, str]]) -> dict[str, Any]:
    """Return what YAML reads in a dvc.lock of these stages. A stage that was read before is not parsed again.

    Raises:
        ruamel.yaml.YAMLError: if a stage is damaged.
    """
    stages = {name: pickle.loads(_parsed(part)) for name, part in parts}  # noqa: S301 - what `_parsed` has made
    return {"schema": "2.0", "stages": stages}


class Stages(Mapping[str, Any]):
    """The stages of a dvc.lock, each of which is parsed when it is asked for.

    Args:
        parts: The name and text of each stage.
        check: Called with the name and text of a stage before it is parsed; raises if it is damaged.
    """

    def __init__(self, parts: list[tuple[str, str]], check: Callable[[tuple[str, str]], None]) -> None:
        self._texts, self._check = dict(parts), check

    def __getitem__(self, name: str) -> Any:
        part = name, self._texts[name]
        self._check(part)
        return parse([part])["stages"][name]

    def __contains__(self, name: object) -> bool:
        return name in self._texts

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


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
