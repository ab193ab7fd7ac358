from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.analysis.tables import tables
from pipeline.support.errors import UserError
from stages import summarize
from tests.handover.doors import RUNS


def test_a_table_that_its_readers_would_refuse_is_not_written(
    configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(configured)
    made = tables(RUNS)
    wrong = made | {"accuracy": made["accuracy"].assign(accuracy=1.5)}
    monkeypatch.setattr(summarize, "read_runs", lambda *_: (RUNS, []))
    monkeypatch.setattr(summarize, "tables", lambda runs: wrong)
    with pytest.raises(UserError, match=r"^plots/accuracy\.csv: column accuracy holds 1\.5, .*; nothing was written"):
        summarize.main()
    assert not (configured / "plots").exists() and not (configured / "metrics/summary.csv").exists()
