from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from pipeline.config import read_configuration
from pipeline.search import tuning
from pipeline.support.errors import UserError
from tests.paths import ROOT, edit


def test_a_grid_is_every_combination() -> None:
    assert tuning.grid(["lr=0.1,1e-3", "base=adam"]) == [{"lr": 0.1, "base": "adam"}, {"lr": 0.001, "base": "adam"}]


@pytest.mark.parametrize(("word", "told"), [("lr", "KEY=VALUE"), ("lrr=1", "did you mean 'lr'"), ("lr=", "KEY=VALUE")])
def test_a_wrong_grid_is_told(word: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        tuning.grid([word])


def test_a_value_out_of_range_is_told() -> None:
    with pytest.raises(UserError, match="must be greater than 0"):
        tuning.plans(read_configuration(ROOT), "naive", [{"lr": -1.0}])


def test_a_search_records_every_run_best_first_and_divergence_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("params.yaml", "benchmarks.yaml", "methods.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    edit(tmp_path / "benchmarks.yaml", "    tasks: 5", "    tasks: 2")
    monkeypatch.chdir(tmp_path)
    tuning.tune("rotated-digits", "naive", ["lr=0.00001,1000000.0,0.2"], [7, 8], jobs=1)
    table = pd.read_csv(tmp_path / "results/tuning/rotated-digits/naive.csv")
    assert table["lr"].tolist() == [0.2, 0.2, 1e-5, 1e-5, 1e6, 1e6]
    assert table["average_accuracy"].isna().tolist() == [False] * 4 + [True] * 2
    assert "naive.csv" in capsys.readouterr().out
