"""The command line: a wrong argument is told in one line, and no argument leads out of a command's own folder."""

from __future__ import annotations

import argparse
import re
from typing import Annotated, Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from pipeline.config.types import Name, Seed, Threads
from pipeline.support.errors import UserError

_NUMBER = re.compile("[0-9]{1,19}")


class Parser(argparse.ArgumentParser):
    """Raises UserError where argparse would print its usage over several lines and end the process."""

    def __init__(self, module: str, description: str | None, **options: Any) -> None:
        first = (description or "").partition("\n")[0]
        super().__init__(prog=f"python -m {module}", description=first, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise it, with the way to the usage."""
        raise UserError(f"{message}; see {self.prog} --help")


def name(text: str, what: str) -> str:
    """A name of a method, an experiment or a record, which becomes that of a file. Raises UserError."""
    try:
        return TypeAdapter[str](Name).validate_python(text)
    except ValidationError:
        raise UserError(f"{what} '{text[:80]}': use lower-case letters, digits and single dashes, at most 80") from None


def seed(text: str, what: str) -> int:
    """A seed, in decimal digits. Raises UserError."""
    try:
        return _within(Seed, text)
    except ValueError:
        raise UserError(f"{what} '{text[:80]}': must be a whole number from 0 to {2**63 - 1}") from None


def seeds(text: str, what: str) -> list[int]:
    """Seeds, as 1,2,3, each once. Raises UserError."""
    found = [seed(word, what) for word in text.split(",")]
    if len(set(found)) < len(found):
        raise UserError(f"{what} {text[:80]}: a seed stands twice; name each once")
    return found


def jobs(text: str) -> int:
    """How much may run side by side: an argparse type."""
    try:
        return _within(Threads, text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text[:80]}' must be a whole number from 1 to 1024") from None


def _within(kind: Annotated[Any, "a type of whole numbers"], text: str) -> int:
    if not _NUMBER.fullmatch(text):  # int() takes _, spaces and the digits of every script
        raise ValueError
    return TypeAdapter[int](kind).validate_python(int(text))
