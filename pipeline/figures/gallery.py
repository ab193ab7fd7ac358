"""Renew the README's table and pictures from the last run:  python -m pipeline.figures.gallery

Copies figures/*.png to docs/images/ and rewrites the README between its two `summary` marks.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from pipeline.errors import UserError, run_stage
from pipeline.files import write_text

BEGIN, END = "<!-- summary -->", "<!-- /summary -->"

#: Column of the summary -> heading, factor, digits.
COLUMNS = {
    "average_accuracy": ("average accuracy (%)", 100, 1),
    "forgetting": ("forgetting (points)", 100, 1),
    "backward_transfer": ("backward transfer (points)", 100, 1),
    "learning_accuracy": ("learning accuracy (%)", 100, 1),
    "largest_eigenvalue": ("largest eigenvalue", 1, 1),
}


def markdown(summary: pd.DataFrame) -> str:
    """The summary as a table: mean ± standard deviation over the seeds."""
    columns = {name: spec for name, spec in COLUMNS.items() if name in summary}
    lines = [
        "| method | " + " | ".join(heading for heading, _, _ in columns.values()) + " |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for row in summary.to_dict("records"):
        cells = [f"`{row['method']}`"]
        for name, (_, factor, digits) in columns.items():
            spread = row.get(f"{name}_std")
            cell = f"{factor * row[name]:.{digits}f}"
            cells.append(cell if spread is None or pd.isna(spread) else f"{cell} ± {factor * spread:.{digits}f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Renew both."""
    readme, summary = Path("README.md"), Path("metrics/summary.csv")
    if not summary.exists():
        raise UserError(f"{summary}: missing; run 'make repro' first")
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"README.md: the marks {BEGIN} and {END} are not there; put them where the table belongs")
    write_text(readme, f"{before}{BEGIN}\n{markdown(pd.read_csv(summary))}\n{END}{after}")
    images = Path("docs/images")
    images.mkdir(parents=True, exist_ok=True)
    for picture in sorted(Path("figures").glob("*.png")):
        shutil.copy(picture, images / picture.name)


if __name__ == "__main__":
    run_stage("gallery", main)
