"""docs/parameters.md says what the declarations say."""

from __future__ import annotations

import pytest

from pipeline.config import tables
from pipeline.support.errors import UserError
from tests.paths import ROOT


def test_the_tables_are_those_of_the_declarations() -> None:
    text = (ROOT / tables.DOCUMENT).read_text(encoding="utf-8")
    assert tables.renewed(text) == text, "run 'tag-pipeline docs'"


def test_every_setting_has_words() -> None:
    for rows in (tables.params(), tables.benchmarks(), tables.methods()):
        assert all(cell is not None and cell != "None" for row in rows for cell in row)


def test_a_document_without_the_marks_is_refused() -> None:
    with pytest.raises(UserError, match="no mark <!-- table: params -->"):
        tables.renewed("")
