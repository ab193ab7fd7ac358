"""Keep the last run of the pipeline under results/, with what DVC outputs must not contain: seconds, machine, commit.

    tag-pipeline record NAME

Writes results/NAME/: runs.csv (every run with its seconds), summary.csv, report.md and its figures, among them cost
against accuracy, and machine.json. The report comes from figures/, the seconds and machines come from logs/.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.experiments.experiments import read_experiments
from pipeline.figures import FIGURES, cost
from pipeline.figures.style import common_look
from pipeline.handover.logs import read_log
from pipeline.handover.plots import PLOTS, SUMMARY
from pipeline.handover.tables import read_table
from pipeline.support.errors import UserError
from pipeline.support.files import whole_folder, write_json
from pipeline.support.git import git

COST = "cost"
#: All files that a record may hold. A folder with any other file was not made by this command, and is left as it is.
PICTURES = {f"{picture}.png" for picture in (*FIGURES, "contact_sheet", COST)}
FILES = {"runs.csv", "summary.csv", "report.md", "machine.json"}


def with_seconds(runs: pd.DataFrame, logs: Path, metrics: Path) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Add to each run the seconds of its training and of its eigenspectrum.

    Args:
        runs: The table of runs.
        logs: Folder of the stages' logs.
        metrics: Folder of the metrics that they wrote.

    Returns:
        The table with the columns `seconds` and `eigenspectrum_seconds`, empty where a log is missing or of another run;
        and the machines on which the runs were made, each once.

    Raises:
        UserError: if a log is damaged.
    """
    seconds: dict[str, list[Any]] = {"train": [], "eigenspectrum": []}
    machines: list[dict[str, Any]] = []
    for method, seed in zip(runs["method"], runs["seed"], strict=True):
        for stage, column in seconds.items():
            written = metrics / str(method) / f"{seed}{'' if stage == 'train' else f'.{stage}'}.json"
            log = read_log(logs / stage / f"{method}-{seed}.json", written, "delete it")
            column.append(log.seconds)
            if log.machine and log.machine not in machines:
                machines.append(log.machine)
    return runs.assign(seconds=seconds["train"], eigenspectrum_seconds=seconds["eigenspectrum"]), machines


def free_place(name: str) -> Path:
    """Return the folder results/NAME if it is free: missing, empty, or made by this command earlier.

    Raises:
        UserError: if the name is that of an experiment or `tuning`, or if the folder holds anything else.
    """
    place = Path("results") / name
    if name == "tuning" or name in (read_experiments() if Path("experiments.yaml").exists() else ()):
        raise UserError(f"{place}: this name is that of an experiment or of the searches; choose another")
    held = {path.name for path in place.iterdir()} if place.is_dir() else set()
    if held - FILES - PICTURES or (held and "machine.json" not in held) or (place.exists() and not place.is_dir()):
        other = sorted(held - FILES - PICTURES)
        also = f" (it holds {other[0]})" if other else ""
        raise UserError(f"{place}: not made by this command{also}; choose another name, or move it away")
    return place


def commit() -> str:
    """Return the commit that is checked out, with -dirty if files differ from it; "unknown" outside a repository."""
    try:
        return git("describe", "--always", "--dirty", "--abbrev=12")
    except UserError as error:
        if any(words in str(error) for words in ("dubious ownership", "cannot be run")):  # which can be mended
            raise
        return "unknown"


def record(name: str) -> None:
    """Keep the last run of the pipeline under results/.

    Args:
        name: Name of the folder below results/.

    Raises:
        UserError: if the name is taken, or if the pipeline has not been run.
    """
    place = free_place(name)
    figures = Path("figures")
    for needed in (figures / "report.md", Path("metrics/summary.csv")):
        if not needed.exists():
            raise UserError(f"{needed}: missing; run 'make repro' first")
    table = read_table("plots/runs.csv", PLOTS["runs"], "run 'make repro' first")
    summary = read_table("metrics/summary.csv", SUMMARY, "run 'make repro' first")
    runs, machines = with_seconds(table, Path("logs"), Path("metrics/runs"))
    with whole_folder(place) as folder:
        runs.to_csv(folder / "runs.csv", index=False, lineterminator="\n")
        shutil.copy("metrics/summary.csv", folder / "summary.csv")
        for picture in sorted(figures.glob("*.png")):
            if picture.name in PICTURES:
                shutil.copy(picture, folder / picture.name)
        report = (figures / "report.md").read_text(encoding="utf-8")
        if runs["seconds"].notna().any():
            with common_look():
                cost.draw(runs[runs["seconds"].notna()]).savefig(folder / f"{COST}.png", dpi=150)
            caption = (
                "Seconds of training against average accuracy. Small: single runs; large: means; both of the runs whose "
                "seconds are known."
            )
            report += f"\n![{caption}]({COST}.png)\n\n{caption}\n"
        (folder / "report.md").write_text(report, encoding="utf-8")
        benchmark = str(summary["benchmark"].iloc[0])  # params.yaml may name another by now
        write_json(folder / "machine.json", {"benchmark": benchmark, "commit": commit(), "machines": machines})
    print(f"{place}: {len(runs)} runs")
