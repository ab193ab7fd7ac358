"""Schemas of CSV files, and a reader that converts nothing silently.

pandas alone would accept a table that lacks its last columns, turn a name that looks like a number into one, take the
word `nan` for a missing value, and keep duplicate rows.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipeline.support.errors import UserError

#: The kind of values in a column. name: a name of a method or benchmark; text: any single line; whole: an integer
#: within bounds; number: a finite number within bounds; flag: True or False.
Kind = Literal["name", "text", "whole", "number", "flag"]

_NAME = re.compile("[a-z0-9]+(-[a-z0-9]+)*")
_LINE = re.compile("[^\x00-\x1f]+")


@dataclass(frozen=True)
class Column:
    """The schema of one column.

    Attributes:
        kind: The kind of its values.
        low: Smallest allowed number.
        high: Largest allowed number.
        blank: Whether a cell may be empty.
        optional: Whether the column may be missing.
        words: The allowed texts; if empty, any text is.
    """

    kind: Kind
    low: float = -inf
    high: float = inf
    blank: bool = False
    optional: bool = False
    words: tuple[str, ...] = ()

    def fault(self, values: pd.Series) -> str | None:
        """Check the values of the column.

        Returns:
            What is wrong with them, as the predicate of a sentence about the column; None if nothing is.
        """
        filled = values.dropna()
        if len(filled) < len(values) and not self.blank:
            return "has an empty cell"
        if not len(filled):
            return None
        if self.kind in ("name", "text"):
            shape = _NAME if self.kind == "name" else _LINE
            wrong = [word for word in filled if not isinstance(word, str) or not shape.fullmatch(word)]
            wrong = wrong or [word for word in filled if self.words and word not in self.words]
            return f"holds {_shown(wrong[0])}" if wrong else None
        if self.kind == "flag":
            return None if pd.api.types.is_bool_dtype(filled) else "holds values other than True and False"
        whole = pd.api.types.is_integer_dtype(filled)
        if pd.api.types.is_bool_dtype(filled) or not (whole or pd.api.types.is_float_dtype(filled)):
            wrong = [word for word in filled if _no_number(word)]
            return f"holds {_shown(wrong[0]) if wrong else 'words'}, which is not a number"
        if self.kind == "whole" and not whole:
            return "holds a number that is not whole"
        out = filled[~np.isfinite(filled.astype(float)) | (filled < self.low) | (filled > self.high)]
        return f"holds {out.iloc[0]}, outside {self.low:g}..{self.high:g}" if len(out) else None


def _no_number(word: Any) -> bool:
    try:
        float(word)
    except (TypeError, ValueError):
        return True
    return False


def _shown(word: Any) -> str:
    text = repr(word)
    return text if len(text) <= 40 else f"{text[:37]}..."


@dataclass(frozen=True)
class Table:
    """The schema of one table.

    Attributes:
        columns: Its columns by name.
        key: Names of the columns whose combined values must differ from row to row; if empty, rows may repeat.
        least: Smallest allowed number of rows.
    """

    columns: Mapping[str, Column]
    key: tuple[str, ...] = ()
    least: int = 0


def check_table(frame: pd.DataFrame, table: Table, path: str | Path, fix: str) -> pd.DataFrame:
    """Check that a data frame matches a table's schema.

    Args:
        frame: The data frame.
        table: The schema.
        path: The file that it comes from or goes to, for the error message.
        fix: What the user can do about a bad table; ends the error message.

    Returns:
        The same data frame.

    Raises:
        UserError: at the first fault: a missing or unknown column, too few rows, a bad value or a duplicate key.
    """
    missing = [name for name, column in table.columns.items() if not column.optional and name not in frame]
    unknown = [name for name in frame.columns if name not in table.columns]
    if missing or unknown:
        problem = (
            f"lacks the column {missing[0]}"
            if missing
            else f"has a column that is none of its own, {_shown(unknown[0])}"
        )
        raise UserError(f"{path}: {problem}; {fix}")
    if len(frame) < table.least:
        raise UserError(f"{path}: has no rows; {fix}")
    if len(frame):
        for name in frame.columns:
            if fault := table.columns[str(name)].fault(frame[name]):
                raise UserError(f"{path}: column {name} {fault}; {fix}")
    key = list(table.key)
    if key and frame.duplicated(key).any():
        again = frame[frame.duplicated(key)].iloc[0]
        raise UserError(f"{path}: {', '.join(f'{name} {again[name]}' for name in key)} stands twice; {fix}")
    return frame


def read_table(path: str | Path, table: Table, fix: str) -> pd.DataFrame:
    """Read a CSV file and check it.

    Args:
        path: The file.
        table: The schema.
        fix: What the user can do about a missing or bad file; ends the error message.

    Raises:
        UserError: if the file is missing, damaged or does not match the schema.
    """
    words: dict[Any, Any] = {name: str for name, column in table.columns.items() if column.kind in ("name", "text")}
    try:
        _check_shape(Path(path).read_text(encoding="utf-8"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # Only an empty cell is a missing value: a method may be called nan.
            frame = pd.read_csv(path, dtype=words, index_col=False, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise UserError(f"{path}: missing; {fix}") from None
    except pd.errors.EmptyDataError:
        raise UserError(f"{path}: empty; {fix}") from None
    except (ValueError, csv.Error, pd.errors.ParserWarning, pd.errors.DtypeWarning, OverflowError) as error:
        raise UserError(f"{path}: not such a table ({' '.join(str(error).split())[:200]}); {fix}") from None
    return check_table(frame, table, path, fix)


def _check_shape(text: str) -> None:
    """Raise ValueError if a row is not as long as the first, or the last line was truncated.

    pandas would fill in the missing cells.
    """
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    width = len(next(rows, []))
    for row in rows:
        if len(row) != width:
            raise ValueError(f"line {rows.line_num} has {len(row)} cells, not {width}")
    if text and not text.endswith("\n"):
        raise ValueError("its last line was cut")
