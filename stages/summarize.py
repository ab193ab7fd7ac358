"""Stage `summarize`: metrics/runs/ -> metrics/methods/*.json, metrics/summary.json, metrics/summary.csv, plots/*.csv.

Computes means and standard deviations over the seeds, and makes the tables behind the plots.
"""

from __future__ import annotations

from stages.process import begin

begin(__name__)

from pathlib import Path

from pipeline.analysis.runs import read_runs
from pipeline.analysis.summary import COMPARED, summarize, summary_table
from pipeline.analysis.tables import tables
from pipeline.config import read_configuration
from pipeline.handover.plots import PLOTS, SUMMARY
from pipeline.handover.tables import check_table
from pipeline.support.errors import note, run_stage
from pipeline.support.files import as_json, whole_file, whole_folder, write_json


def main() -> None:
    """Summarize the configured runs, and name those that are missing on stderr."""
    params = read_configuration().params
    runs, missing = read_runs(Path("metrics/runs"), params.methods, params.seeds)
    for method, seed, stage in missing:
        note("summarize", f"{stage}@{method}-{seed} is missing and left out")
    made = tables(runs)
    summary = summarize(made["runs"])
    of_methods = summary_table(summary, params.benchmark, made["runs"])
    with (  # everything is written before the first output is replaced
        whole_folder("plots") as plots,
        whole_file("metrics/summary.csv") as csv,
        whole_file("metrics/summary.json") as json,
        whole_folder("metrics/methods") as methods,
    ):
        for name, table in made.items():
            path = plots / f"{name}.csv"
            check_table(table, PLOTS[name], f"plots/{name}.csv", "nothing was written")
            table.to_csv(path, index=False, lineterminator="\n")
        check_table(of_methods, SUMMARY, "metrics/summary.csv", "nothing was written")
        of_methods.to_csv(csv, index=False, lineterminator="\n")
        json.write_text(as_json(summary), encoding="utf-8")
        for method, entry in summary.items():
            write_json(methods / f"{method}.json", {name: entry[name] for name in COMPARED if name in entry})


if __name__ == "__main__":
    run_stage("summarize", main)
