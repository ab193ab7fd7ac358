"""A bounded YAML reader: no file can make a stage hang, exhaust memory or construct anything but plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipeline.support.errors import UserError

#: Size limits in bytes: for files that people write (the project's largest has 17,000), and for dvc.lock, which DVC
#: writes and which grows with the number of runs.
LARGEST, LARGEST_LOCK = 1_000_000, 100_000_000
#: Limits on the levels of nesting and on the number of values once all aliases are expanded; the project's own files
#: have 6 levels and a few thousand values.
DEEPEST, MOST = 30, 1_000_000


class _Bounded(Composer):
    """Refuses tags, which can construct arbitrary objects, and aliases that expand to a huge or a recursive value."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.warn_double_anchors = False  # YAML allows them: the later one counts from there on
        self._sizes: dict[int, int] = {}
        self._kept: list[Any] = []  # keeps every node alive, so that no id in _sizes is used again for another node

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose the next node and count the values it expands to."""
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
        """Return the node that an alias refers to, unless that node is still being composed."""
        if id(a) not in self._sizes:
            raise ComposerError(None, None, "an alias refers to a value that contains it", a.start_mark)
        return a


def read_yaml(path: str | Path, largest: int = LARGEST) -> Any:
    """Parse one YAML file into mappings, lists, text, numbers, booleans, dates and null.

    Args:
        path: The file to read.
        largest: Maximum size of the file in bytes.

    Returns:
        The plain value that the file holds.

    Raises:
        UserError: if the file is missing, larger than `largest`, nested too deeply, contains tags, is not UTF-8 or is
            not valid YAML. The message names the file and, where known, the line and column.
    """
    path = Path(path)
    try:
        if path.stat().st_size > largest:
            raise UserError(f"{path}: has more than {largest:,} bytes, which no such file needs; restore it")
        # The parser that DVC uses too (YAML 1.2: 1e-3 is a number, on and no are words, duplicate keys are errors).
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
        # What the parser itself fails on: a date that does not exist, a number of thousands of digits, a list as a key.
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())[:200]}; fix it") from None
