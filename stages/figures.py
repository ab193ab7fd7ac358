"""Stage `figures`: plots/*.csv + runs/*.yaml + published.csv + the first images of data/tasks/ -> figures/.

Draws every figure as PNG and SVG, and writes the report as report.md and report.html.
"""

from __future__ import annotations

from stages.process import begin

begin(__name__)

from pathlib import Path

from pipeline.analysis.published import read_published
from pipeline.config import read_configuration, read_run_plan
from pipeline.figures import draw_all, read_tables
from pipeline.report.report import report
from pipeline.report.writing import as_html, as_markdown
from pipeline.streams.reader import Tasks
from pipeline.support.errors import run_stage
from pipeline.support.files import whole_folder


def main() -> None:
    """Draw every figure and write the report."""
    params = read_configuration().params
    tables = read_tables(Path("plots"))
    seeds_run = [int(seed) for seed in tables["runs"]["seed"].unique()]
    tasks = Tasks.open("data/tasks", seeds_run[0])  # those of one run, where every run draws its own
    plans = {method: read_run_plan(Path("runs") / f"{method}.yaml") for method in params.methods}
    data = {**tasks.manifest["plan"], "tasks": len(tasks), "benchmark": params.benchmark}
    data["sources"] = tasks.manifest.get("sources", {})
    if tasks.drawn is not None:
        data["drawn"] = {seed: Tasks.open("data/tasks", seed).classes for seed in seeds_run}
    with whole_folder("figures") as folder:
        drawn = draw_all(tables, params.figures, folder, (tasks.first_images(), tasks.names))
        seeds = dict.fromkeys(params.methods, len(params.seeds))
        options = {"reference": params.figures.reference, "seeds": seeds, "here": True}
        sections = report(tables, plans, data, read_published(), options, drawn)
        (folder / "report.md").write_text(as_markdown(params.benchmark, sections), encoding="utf-8")
        (folder / "report.html").write_text(as_html(params.benchmark, sections, folder), encoding="utf-8")


if __name__ == "__main__":
    run_stage("figures", main)
