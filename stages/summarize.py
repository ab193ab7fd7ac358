"""summarize: metrics/runs/ -> metrics/summary.json, metrics/summary.csv, plots/*.csv."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import read_configuration
from pipeline.errors import run_stage
from pipeline.files import whole_folder, write_json, write_text
from pipeline.summary import read_runs, summarize, summary_table, tables


def main() -> None:
    """Summarize the configured runs."""
    params = read_configuration().params
    made = tables(read_runs(Path("metrics/runs"), params.methods, params.seeds))
    summary = summarize(made["runs"])
    with whole_folder("plots") as folder:
        for name, table in made.items():
            table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    write_text(
        "metrics/summary.csv",
        summary_table(summary, params.benchmark, len(params.seeds)).to_csv(index=False, lineterminator="\n"),
    )
    write_json("metrics/summary.json", summary)


if __name__ == "__main__":
    run_stage("summarize", main)
