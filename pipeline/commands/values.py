"""Check the values of arguments and options, and complete them in a shell.

Both import the configuration only when they are called: `--help` needs none of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pipeline.support.errors import UserError, nearest


def jobs(text: str) -> int:
    """Parse --jobs. Raises UserError if it is not a whole number from 1 to 1024."""
    from pipeline.config import arguments

    return arguments.jobs(text, "--jobs")


def seeds(text: str) -> list[int]:
    """Parse --seeds, such as 1,2,3. Raises UserError if one is invalid or named twice."""
    from pipeline.config import arguments

    return arguments.seeds(text, "--seeds")


def seed(what: str) -> Callable[[str], int]:
    """Return the parser of a seed; `what` is what its error message calls the argument."""

    def parse(text: str) -> int:
        from pipeline.config import arguments

        return arguments.seed(text, what)

    return parse


def whole(what: str) -> Callable[[str], int]:
    """Return the parser of a whole number from 1 to 100,000; `what` is what its error message calls the argument."""

    def parse(text: str) -> int:
        if not re.fullmatch("0*[0-9]{1,6}", text) or not 1 <= int(text[-6:]) <= 100_000:
            raise UserError(f"{what} '{text[:80]}': must be a whole number from 1 to 100000")
        return int(text[-6:])

    return parse


def name(what: str) -> Callable[[str], str]:
    """Return the parser of a name that becomes a file name; `what` is what its error message calls the argument."""

    def parse(text: str) -> str:
        from pipeline.config import arguments

        return arguments.name(text, what)

    return parse


def one_of(what: str, allowed: Iterable[str]) -> Callable[[str], str]:
    """Return the parser of one of a few words; `what` is what its error message calls the argument."""
    words = tuple(allowed)

    def parse(text: str) -> str:
        if text not in words:
            raise UserError(f"{what} '{text[:80]}': unknown; {nearest(text, words, 40)}")
        return text

    return parse


def words(allowed: Iterable[str]) -> Callable[[str], list[str]]:
    """Return the completion of one of a few words."""
    known = tuple(allowed)
    return lambda incomplete: [word for word in known if word.startswith(incomplete)]


def keys_of(file: str) -> Callable[[str], list[str]]:
    """Return the completion of a name that a YAML file of the project declares, such as a method of methods.yaml."""

    def complete(incomplete: str) -> list[str]:
        from pipeline.config.parsing import read_yaml

        try:
            declared = read_yaml(Path(file))
        except (UserError, OSError):  # a shell has no place for messages while a word is being completed
            return []
        known = declared if isinstance(declared, Mapping) else ()
        return [str(word) for word in known if str(word).startswith(incomplete)]

    return complete
