"""Keep what was run last under results/, with what no DVC output may hold: seconds, machine, commit.

    python -m pipeline.record NAME

Writes results/NAME/: runs.csv (every run with its seconds), summary.csv, report.md and its figures, among them cost against
accuracy, and machine.json. The report is the one of figures/; seconds and machines are those of logs/.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
import pandas as pd
from pydantic import TypeAdapter, ValidationError

from pipeline.config import read_configuration
from pipeline.config.schema import Name
from pipeline.errors import UserError, run_stage
from pipeline.figures import cost
from pipeline.figures.style import STYLE
from pipeline.files import read_json, whole_folder, write_json
from pipeline.git import git_or_none

COST = "cost"


def with_seconds(runs: pd.DataFrame, logs: Path) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """The runs with the seconds of their training and eigenspectrum (none where a log is missing), and the machines."""
    seconds: dict[str, list[Any]] = {"train": [], "eigenspectrum": []}
    machines: list[dict[str, Any]] = []
    for method, seed in zip(runs["method"], runs["seed"], strict=True):
        for stage, column in seconds.items():
            path = logs / stage / f"{method}-{seed}.json"
            log = read_json(path, "delete it") if path.exists() else {}
            column.append(log.get("seconds"))
            if log.get("machine") and log["machine"] not in machines:
                machines.append(log["machine"])
    return runs.assign(seconds=seconds["train"], eigenspectrum_seconds=seconds["eigenspectrum"]), machines


def commit() -> str:
    """The commit that is checked out, marked where files differ from it; unknown outside a repository."""
    return git_or_none("describe", "--always", "--dirty", "--abbrev=12") or "unknown"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.record", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", help="of the folder below results/")
    name = parser.parse_args(arguments).name
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise UserError(f"'{name}': use lower-case letters, digits and single dashes") from None
    table, figures = Path("plots/runs.csv"), Path("figures")
    if not table.exists() or not (figures / "report.md").exists():
        raise UserError(f"{table} or figures/report.md: missing; run 'make repro' first")
    runs, machines = with_seconds(pd.read_csv(table), Path("logs"))
    with whole_folder(Path("results") / name) as folder:
        runs.to_csv(folder / "runs.csv", index=False, lineterminator="\n")
        shutil.copy("metrics/summary.csv", folder / "summary.csv")
        for picture in sorted(figures.glob("*.png")):
            shutil.copy(picture, folder / picture.name)
        report = (figures / "report.md").read_text(encoding="utf-8")
        if runs["seconds"].notna().any():
            with mpl.rc_context(cast("Any", STYLE)):
                cost.draw(runs[runs["seconds"].notna()]).savefig(folder / f"{COST}.png", dpi=150)
            caption = "Seconds of training against average accuracy. Small: single runs; large: means."
            report += f"![{caption}]({COST}.png)\n\n{caption}\n"
        (folder / "report.md").write_text(report, encoding="utf-8")
        benchmark = read_configuration().params.benchmark
        write_json(folder / "machine.json", {"benchmark": benchmark, "commit": commit(), "machines": machines})
    print(f"results/{name}: {len(runs)} runs")


if __name__ == "__main__":
    run_stage("record", main)
