"""summarize: metrics/runs/ -> metrics/methods/*.json, metrics/summary.json, metrics/summary.csv, plots/*.csv."""

from __future__ import annotations

from pipeline.process import begin

begin(__name__)

import sys
from pathlib import Path

from pipeline.config import read_configuration
from pipeline.errors import run_stage
from pipeline.files import whole_folder, write_json, write_text
from pipeline.summary import COMPARED, read_runs, summarize, summary_table, tables


def main() -> None:
    """Summarize the configured runs."""
    params = read_configuration().params
    runs, missing = read_runs(Path("metrics/runs"), params.methods, params.seeds)
    for method, seed, stage in missing:
        print(f"summarize: note: {stage}@{method}-{seed} is missing and left out", file=sys.stderr)
    made = tables(runs)
    summary = summarize(made["runs"])
    with whole_folder("plots") as folder:
        for name, table in made.items():
            table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    write_text(
        "metrics/summary.csv",
        summary_table(summary, params.benchmark, made["runs"]).to_csv(index=False, lineterminator="\n"),
    )
    write_json("metrics/summary.json", summary)
    with whole_folder("metrics/methods") as folder:
        for method, entry in summary.items():
            write_json(folder / f"{method}.json", {name: entry[name] for name in COMPARED if name in entry})


if __name__ == "__main__":
    run_stage("summarize", main)
