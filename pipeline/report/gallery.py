"""Renew the README's table and pictures from the last run:  tag-pipeline gallery

Copies figures/*.png to docs/images/ and rewrites the README between its two `summary` markers.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pandas as pd

from pipeline.handover.plots import SUMMARY
from pipeline.handover.tables import read_table
from pipeline.report.writing import Table, markdown_table
from pipeline.support.errors import UserError
from pipeline.support.files import marked, whole_files, write_text

BEGIN, END = "<!-- summary -->", "<!-- /summary -->"

#: Column of the summary -> heading, factor, number of decimals.
COLUMNS = {
    "average_accuracy": ("average accuracy (%)", 100, 1),
    "forgetting": ("forgetting (points)", 100, 1),
    "backward_transfer": ("backward transfer (points)", 100, 1),
    "learning_accuracy": ("learning accuracy (%)", 100, 1),
    "largest_eigenvalue": ("largest eigenvalue", 1, 1),
}


def markdown(summary: pd.DataFrame) -> str:
    """Return the summary as a table in Markdown: mean ± standard deviation over the seeds; a dash: not measured."""
    columns = {name: spec for name, spec in COLUMNS.items() if name in summary}
    rows = []
    for row in summary.to_dict("records"):
        cells = [
            _cell(factor * row[name], factor * row.get(f"{name}_std", math.nan), digits)
            for name, (_, factor, digits) in columns.items()
        ]
        rows.append([f"`{row['method']}`", *cells])
    return markdown_table(Table(["method", *(heading for heading, _, _ in columns.values())], rows))


def _cell(mean: float, std: float, digits: int) -> str:
    if math.isnan(mean):
        return "–"
    return f"{mean:.{digits}f}" if math.isnan(std) else f"{mean:.{digits}f} ± {std:.{digits}f}"


def renew() -> None:
    """Renew the README's table and the pictures of docs/images/.

    Raises:
        UserError: if the summary or the figures are missing, or if the README has no markers.
    """
    readme, summary = Path("README.md"), Path("metrics/summary.csv")
    table = read_table(summary, SUMMARY, "run 'make repro' first")
    pictures = sorted(path for path in Path("figures").glob("*.png") if path.is_file())
    if not pictures:
        raise UserError("figures: no pictures; run 'make repro' first")
    text = marked(readme, BEGIN, END, markdown(table))
    with whole_files("docs/images") as folder:
        for picture in pictures:
            shutil.copy(picture, folder)
    write_text(readme, text)
