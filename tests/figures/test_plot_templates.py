"""The templates of `dvc plots`: what Vega refuses, or what would draw nothing."""

from __future__ import annotations

import json

import pytest
from ruamel.yaml import YAML

from pipeline.analysis.tables import TABLES
from tests.conftest import ROOT

TEMPLATES = sorted((ROOT / ".dvc/plots").glob("*.json"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.stem))
def test_a_layered_template_selects_in_one_layer(path: object) -> None:
    """Vega refuses a selection at the top of a layered view: each layer would define its signals again."""
    template = json.loads((ROOT / ".dvc/plots" / str(path)).read_text(encoding="utf-8"))
    assert "params" not in template
    assert sum("params" in layer for layer in template["layer"]) <= 1


def test_every_plot_draws_columns_that_its_table_has() -> None:
    plots = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    names = {path.stem for path in TEMPLATES}
    for plot in plots:
        ((_, settings),) = plot.items()
        ((file, column),) = settings["y"].items()
        table = TABLES[file.removeprefix("plots/").removesuffix(".csv")]
        assert {settings["x"], column} <= {"method", *table}
        assert settings["template"] in names
