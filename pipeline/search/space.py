"""What a search may try: for each setting a list of values or a range, written as lr=0.1,0.2 or lr=0.001..0.1:log."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pipeline.config.schema import NULLABLE, Settings
from pipeline.support.errors import UserError, nearest

#: A point of a space: setting -> value.
Point = dict[str, Any]
#: The largest number of points that a grid may have.
MOST = 100_000
#: Above every end of a range.
LARGEST = 1e300
WORDS = {"true": True, "false": False, "null": None}
HOW = "write KEY=VALUE,VALUE as in lr=0.1,0.2 or KEY=LOW..HIGH as in dropout=0..0.5 or lr=0.001..0.1:log"


@dataclass(frozen=True)
class Values:
    """A list of values of one setting."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, both included: whole ones, if both ends are of type int.

    Attributes:
        log: Whether the logarithm is what is spread evenly.
    """

    low: float
    high: float
    log: bool

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Space = dict[str, Values | Range]


def read_space(assignments: Sequence[str]) -> Space:
    """Read a space as it is written on the command line.

    Raises:
        UserError: if there is none, if one is malformed, or if a setting is unknown or stands twice.
    """
    space: Space = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or not text:
            raise UserError(f"'{assignment}': {HOW}")
        if key not in Settings.model_fields:
            raise UserError(f"'{key}': unknown setting; {nearest(key, Settings.model_fields, 40)}")
        if key in space:
            raise UserError(f"'{key}' stands twice; write all its values after one {key}=")
        space[key] = _range(key, assignment, text) if ".." in text else _values(key, assignment, text)
    if not space:
        raise UserError(f"nothing to search; {HOW}")
    return space


def _values(key: str, assignment: str, text: str) -> Values:
    values = tuple(_value(word) for word in text.split(","))
    if len({(isinstance(value, str), value) for value in values}) < len(values):
        raise UserError(f"'{assignment}': a value stands twice; name each once")
    if None in values and key not in NULLABLE:  # it would stand for what an earlier layer has
        raise UserError(f"'{assignment}': null is no value of {key}; leave it out")
    return Values(values)


def _range(key: str, assignment: str, text: str) -> Range:
    ends, _, scale = text.partition(":")
    low, high = (_value(word) for word in ends.split("..", 1))
    numbers = all(
        isinstance(end, int | float) and not isinstance(end, bool) and abs(end) < LARGEST for end in (low, high)
    )
    if not numbers or scale not in ("", "log") or (":" in text and not scale):
        raise UserError(f"'{assignment}': {HOW}")
    if low >= high or (scale and low <= 0):
        raise UserError(f"'{assignment}': LOW must be below HIGH, and above 0 with :log")
    if int not in _types(Settings.model_fields[key].annotation):  # 0..1 of a share is all that is between
        low, high = float(low), float(high)
    return Range(low, high, bool(scale))


def _types(declared: Any) -> set[Any]:
    """The types that a declaration allows, such as int and None of `Count | None`."""
    if get_origin(declared) is Annotated:
        return _types(get_args(declared)[0])
    if get_origin(declared) in (Union, UnionType):
        return set().union(*map(_types, get_args(declared)))
    return {declared}


def _value(word: str) -> Any:
    """A word as an int, a float, or what YAML has for true, false and null, if it is one of them."""
    if word in WORDS:
        return WORDS[word]
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def word(value: Any) -> Any:
    """A value as it is written: what YAML has for true, false and null; any other as it is."""
    return next((text for text, meant in WORDS.items() if meant is value), value)


def identity(point: Point) -> str:
    """Return a text that two points have in common only if they have the same values."""
    return json.dumps(point, sort_keys=True)


def grid(space: Space) -> list[Point]:
    """Return every combination of the values of a space; the last setting changes fastest.

    Raises:
        UserError: if a setting has a range, or if there are more than `MOST` points.
    """
    for key, axis in space.items():
        if isinstance(axis, Range):
            raise UserError(f"'{key}' has a range, which no grid can go through; list values, or take --sampler tpe")
    return _product(space, (axis.values for axis in space.values() if isinstance(axis, Values)))


def corners(space: Space) -> list[Point]:
    """Return every combination of values and ends of ranges: what must be valid for the whole space to be.

    Raises:
        UserError: if there are more than `MOST`.
    """
    return _product(
        space, (axis.values if isinstance(axis, Values) else (axis.low, axis.high) for axis in space.values())
    )


def _product(space: Space, axes: Iterable[tuple[Any, ...]]) -> list[Point]:
    listed = list(axes)
    if math.prod(map(len, listed)) > MOST:
        raise UserError(f"the grid has more than {MOST:,} points; leave some values out")
    return [dict(zip(space, combination, strict=True)) for combination in itertools.product(*listed)]
