"""Write the overall part of docs/reproductions.md, and its picture, from the records of all experiments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.analysis.intervals import Estimate, estimate
from pipeline.analysis.published import Comparison
from pipeline.experiments.experiments import Experiment
from pipeline.experiments.report import Records, planned
from pipeline.experiments.together import PICTURE, Outcome, counted, fingerprint, judged, without_runs
from pipeline.figures import published_rows
from pipeline.figures.style import common_look
from pipeline.report.report import difference_shown
from pipeline.report.writing import Table, markdown_table
from pipeline.support.files import marked, whole_file, write_text

DOCUMENT = Path("docs/reproductions.md")
BEGIN, END = "<!-- table -->", "<!-- /table -->"


def overall(outcomes: Sequence[Outcome]) -> str:
    """Compose the overall part of docs/reproductions.md in Markdown.

    It has a table of all experiments, the verdict over all published rows, the rows without a run, and the results of each
    experiment that has any.
    """
    rows, parts = [], []
    for found in outcomes:
        name, experiment, runs = found.name, found.experiment, found.runs
        if runs is None:
            rows.append([name, experiment.paper, experiment.description, "not run here", ""])
            continue
        ran = f"{len(runs)} of {len(experiment.runs)}"
        held = _held(experiment, runs, found.compared)
        rows.append([f"[{name}](#{name})", experiment.paper, experiment.description, ran, held])
        parts += [f"### {name}", f"{experiment.description} ([report](../results/{name}/report.md))"]
        parts += [markdown_table(_table(experiment, runs, found.compared, found.records))]
        if found.absent:
            parts.append(f"Not run yet: {', '.join(found.absent)}.")
        parts += experiment.notes
    headings = ["experiment", "paper", "what", "runs", "published rows reproduced"]
    return "\n\n".join([markdown_table(Table(headings, rows)), *judged(outcomes), *without_runs(outcomes), *parts])


def _missing(experiment: Experiment, runs: pd.DataFrame) -> Counter[str]:
    """Number of runs that each method still lacks."""
    return planned(experiment) - Counter(runs["method"])


def _held(experiment: Experiment, runs: pd.DataFrame, compared: Mapping[str, Comparison]) -> str:
    """How many published rows are reproduced: of those with all their runs, and of those with only some of them."""
    if not compared:
        return "none in published.csv"
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
    # The papers count forgetting in two ways; an experiment's rows are all of papers that count alike.
    kind = next((found.row.forgetting_metric for found in compared.values()), "forgetting_paper")
    headings += ["forgetting (points)" if kind == "forgetting" else "forgetting, the end included (points)"]
    headings += ["learning accuracy (%)"] + (["largest eigenvalue"] if eigenvalues else [])
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
        for name, value in ((kind, forgetting), ("learning_accuracy", learning)):
            published = f" (published {_brief(value)})" if value else ""
            # Of a stream of one task there is no forgetting.
            cells.append((_mean(of_method[name]) if name in of_method else "") + published)
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


def renew_document(outcomes: Sequence[Outcome]) -> None:
    """Put the overall part between its two markers in docs/reproductions.md, and draw the picture that it shows.

    Raises:
        UserError: if the markers are missing; nothing is written then.
    """
    text = marked(DOCUMENT, BEGIN, END, overall(outcomes))
    rows, picture = counted(outcomes), DOCUMENT.parent / PICTURE
    if rows:
        with whole_file(picture) as partial, common_look():
            look: dict[str, Any] = {"format": "png", "dpi": 150, "metadata": {"Rows": fingerprint(rows)}}
            published_rows.draw(rows).savefig(partial, **look)
    else:
        picture.unlink(missing_ok=True)
    write_text(DOCUMENT, text)
