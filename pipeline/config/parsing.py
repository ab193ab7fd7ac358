"""YAML text to plain values, bounded: no file makes a stage hang, run out of memory or build anything but plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipeline.support.errors import UserError

#: Bytes of a file that a person writes; the project's largest has 17,000. DVC writes dvc.lock, which grows with the runs.
LARGEST, LARGEST_LOCK = 1_000_000, 100_000_000
#: Levels of nesting, and values once all aliases are followed; the project's files have 6 and some thousands.
DEEPEST, MOST = 30, 1_000_000


class _Bounded(Composer):
    """Refuses tags, which may build any object, and aliases that make a small file a huge value or one that holds itself."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self._sizes: dict[int, int] = {}
        self._kept: list[Any] = []  # a node that is freed would give its id to another

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next node."""
        event = self.parser.peek_event()
        if getattr(event, "ctag", None) is not None:
            raise ComposerError(None, None, f"the tag {event.ctag} is not allowed", event.start_mark)
        node = super().compose_node(parent, index)
        if id(node) not in self._sizes:
            below = node.value if isinstance(node.value, list) else []
            flat = [part for item in below for part in (item if isinstance(item, tuple) else (item,))]
            size = 1 + sum(self._sizes[id(part)] for part in flat)
            if size > MOST:
                raise ComposerError(None, None, f"its aliases make more than {MOST:,} values", node.start_mark)
            self._sizes[id(node)] = size
            self._kept.append(node)
        return node

    def return_alias(self, a: Any) -> Any:
        """The node that an alias names."""
        if id(a) not in self._sizes:
            raise ComposerError(None, None, "an alias names what it is part of", a.start_mark)
        return a


def read_yaml(path: str | Path, largest: int = LARGEST) -> Any:
    """Parse one YAML file: mappings, lists, text, numbers, booleans, dates, null.

    Args:
        path: The file.
        largest: Bytes that it may have.

    Raises:
        UserError: The file is missing, too large, nested too deep, has tags, or is not valid. Names file, line and column.
    """
    path = Path(path)
    try:
        if path.stat().st_size > largest:
            raise UserError(f"{path}: has more than {largest:,} bytes, which no such file needs; restore it")
        # DVC's own parser (YAML 1.2: 1e-3 is a number, on and no are words, no key stands twice).
        parser = YAML(typ="safe", pure=True)
        parser.Composer, parser.max_depth = _Bounded, DEEPEST
        return parser.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: missing; restore it, e.g. with 'git checkout -- {path}'") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = " ".join(str(error.problem).split())[:200].partition(", if necessary")[0]
        raise UserError(f"{path}{where}: not valid YAML: {problem}; fix that line") from None
    except YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())[:200]}; fix it") from None
    except (
        ValueError,
        TypeError,
        ArithmeticError,
        LookupError,
        AttributeError,
        RecursionError,
        AssertionError,
    ) as error:
        # The parser's own faults: a date that no calendar has, a number of thousands of digits, a key that is a list.
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())[:200]}; fix it") from None
