"""Write the overall part of docs/reproductions.md from the records of all experiments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from pipeline.analysis.intervals import Estimate, estimate
from pipeline.analysis.published import Comparison, compare
from pipeline.analysis.summary import tables
from pipeline.config import RunPlan
from pipeline.experiments.experiments import Experiment
from pipeline.experiments.records import as_run
from pipeline.experiments.report import Records, planned, published_rows
from pipeline.report.report import Table, difference_shown, markdown_table
from pipeline.support.files import marked, write_text

DOCUMENT = Path("docs/reproductions.md")
BEGIN, END = "<!-- table -->", "<!-- /table -->"


def overall(entries: Sequence[tuple[str, Experiment, Records, Mapping[str, RunPlan]]]) -> str:
    """Compose the overall part of docs/reproductions.md: a table of all experiments, then the results of each.

    Args:
        entries: For each experiment its name, the experiment, its records, and the resolved plans of its methods.

    Returns:
        The text in Markdown. Experiments without any records are in the first table only.
    """
    rows, parts = [], []
    for name, experiment, records, methods in entries:
        if not records:
            rows.append([name, experiment.paper, experiment.description, "not run here", ""])
            continue
        runs = tables([as_run(record) for record in records.values()])["runs"]
        compared = {
            found.method: found for found in compare(runs, methods, experiment.benchmark, published_rows(experiment))
        }
        ran = f"{len(records)} of {len(experiment.runs)}"
        held = _held(experiment, runs, compared)
        rows.append([f"[{name}](#{name})", experiment.paper, experiment.description, ran, held])
        parts += [f"### {name}", f"{experiment.description} ([report](../results/{name}/report.md))"]
        parts += [markdown_table(_table(experiment, runs, compared, records))]
        if absent := [method for method in experiment.methods if method not in set(runs["method"])]:
            parts.append(f"Not run yet: {', '.join(absent)}.")
        parts += experiment.notes
    headings = ["experiment", "paper", "what", "runs", "published rows reproduced"]
    return "\n\n".join([markdown_table(Table(headings, rows)), *parts])


def _missing(experiment: Experiment, runs: pd.DataFrame) -> Counter[str]:
    """Number of runs that each method still lacks."""
    return planned(experiment) - Counter(runs["method"])


def _held(experiment: Experiment, runs: pd.DataFrame, compared: Mapping[str, Comparison]) -> str:
    """How many published rows are reproduced: of those with all their runs, and of those with only some of them."""
    if not compared:
        return "none published in figures"
    lacking = _missing(experiment, runs)
    whole = [found.verdict for method, found in compared.items() if not lacking[method]]
    begun = [found.verdict for method, found in compared.items() if lacking[method]]
    counts = [f"{whole.count('reproduced')} of {len(whole)}"] if whole else []
    if begun:
        counts.append(f"{begun.count('reproduced')} of {len(begun)} so far, with fewer seeds")
    waiting = len(set(experiment.methods) - set(runs["method"]))
    return "; ".join(counts + ([f"{waiting} not run yet"] if waiting else []))


def _table(experiment: Experiment, runs: pd.DataFrame, compared: Mapping[str, Comparison], records: Records) -> Table:
    """Table of an experiment's results, a row for each method that has run."""
    lacking = _missing(experiment, runs)
    beside = bool(compared)
    eigenvalues = "largest_eigenvalue" in runs and runs["largest_eigenvalue"].notna().any()
    headings = ["method", "seeds", "average accuracy (%)"]
    headings += ["published", "d", "verdict"] if beside else []
    headings += ["forgetting (points)", "learning accuracy (%)"] + (["largest eigenvalue"] if eigenvalues else [])
    unverified = any(record.get("sources") for record in records.values())
    headings += ["images from"] if unverified else []
    rows = []
    for method in experiment.methods:
        of_method = runs[runs["method"] == method]
        if not len(of_method):
            continue
        found = compared.get(method)
        count = f"{len(of_method)} of {len(of_method) + lacking[method]}" if lacking[method] else str(len(of_method))
        cells = [f"{method} ({found.row.row})" if found else method, count, _mean(of_method["average_accuracy"])]
        if beside and found:
            verdict = found.verdict + (" so far" if lacking[method] else "")
            cells += [_brief(found.row.accuracy), difference_shown(found.difference), verdict]
        elif beside:
            cells += ["", "", ""]
        forgetting, learning = (found.row.forgetting, found.row.learning_accuracy) if found else (None, None)
        for name, value in (("forgetting_paper", forgetting), ("learning_accuracy", learning)):
            published = f" (published {_brief(value)})" if value else ""
            cells.append(_mean(of_method[name]) + published)
        if eigenvalues:
            cells.append(_mean(of_method["largest_eigenvalue"], factor=1, digits=2))
        if unverified:
            told = [records[method, int(seed)].get("sources") or {} for seed in of_method["seed"]]
            cells.append("; ".join(sorted({source for sources in told for source in sources.values()})))
        rows.append(cells)
    return Table(headings, rows)


def _brief(value: Estimate, digits: int = 1) -> str:
    """Mean ± standard deviation, or the mean alone where there is no deviation."""
    return f"{value.mean:.{digits}f}" + (f" ± {value.std:.{digits}f}" if value.std is not None else "")


def _mean(values: pd.Series, factor: float = 100, digits: int = 1) -> str:
    return _brief(estimate([factor * float(value) for value in values]), digits)


def renew_document(table: str) -> None:
    """Put the overall table between its two markers in docs/reproductions.md. Raises UserError if they are missing."""
    write_text(DOCUMENT, marked(DOCUMENT, BEGIN, END, table))
