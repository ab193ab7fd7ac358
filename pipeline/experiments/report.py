"""Write up an experiment's records: results/<experiment>/, and the overall table of docs/reproductions.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from pipeline.analysis.intervals import Estimate, estimate
from pipeline.analysis.published import Comparison, compare, read_published
from pipeline.analysis.summary import summarize, summary_table, tables
from pipeline.config import Configuration, RunPlan
from pipeline.experiments.experiments import Experiment, plans
from pipeline.experiments.records import RESULTS, as_run
from pipeline.figures import FIGURES, draw_all
from pipeline.report.report import Section, Table, as_markdown, difference_shown, markdown_table, report
from pipeline.support.files import marked, whole_files, write_json, write_text

DOCUMENT = Path("docs/reproductions.md")
BEGIN, END = "<!-- table -->", "<!-- /table -->"

#: Method and seed -> record.
Records = Mapping[tuple[str, int], Mapping[str, Any]]


def write_results(
    name: str, experiment: Experiment, configuration: Configuration, records: Records
) -> list[Comparison]:
    """Write the tables, figures and report of an experiment to results/<name>/, beside the records of its runs.

    Args:
        name: Name of the experiment.
        experiment: The experiment.
        configuration: Its configuration, as `configured` builds it.
        records: The records of its finished runs, at least one.

    Returns:
        Our results beside the published ones, for each method that has both.
    """
    data, methods = plans(configuration)
    made = tables([as_run(record) for record in records.values()])
    runs = made["runs"]
    seconds = {key: record["seconds"] for key, record in records.items()}
    listed = runs.assign(
        seconds=[seconds[key] for key in zip(runs["method"], runs["seed"], strict=True)],
        commit=[records[key]["commit"][:12] for key in zip(runs["method"], runs["seed"], strict=True)],
    )
    summary = summarize(runs)
    table = summary_table(summary, experiment.benchmark, runs)
    published = published_rows(experiment)
    sources = {name: source for record in records.values() for name, source in (record.get("sources") or {}).items()}
    stream = {**data.model_dump(exclude_none=True), "benchmark": experiment.benchmark, "sources": sources}
    number = len(next(iter(records.values()))["accuracy"][0])
    params = configuration.params
    options = {"reference": params.figures.reference, "seeds": _planned(experiment), "device": params.compute.device}
    with whole_files(RESULTS / name, [f"{figure}.png" for figure in FIGURES]) as folder:
        listed.to_csv(folder / "runs.csv", index=False, lineterminator="\n")
        table.to_csv(folder / "summary.csv", index=False, lineterminator="\n")
        write_json(folder / "summary.json", summary)
        with (folder / "settings.yaml").open("w", encoding="utf-8") as file:
            plain = {method: plan.model_dump(exclude_none=True) for method, plan in methods.items()}
            YAML().dump({"data": data.model_dump(exclude_none=True), "methods": plain}, file)
        drawn = draw_all(made, params.figures.model_copy(update={"vector_formats": []}), folder, None)
        sections = report(made, methods, {**stream, "tasks": number}, published, options, drawn)
        sections.insert(1, _how(experiment, records))
        if experiment.notes:
            sections.append(Section("What was found", experiment.notes))
        text = as_markdown(f"{experiment.paper}: {experiment.description}", sections)
        (folder / "report.md").write_text(text, encoding="utf-8")
    return compare(runs, methods, experiment.benchmark, published)


def published_rows(experiment: Experiment) -> pd.DataFrame:
    """Return the published rows that an experiment is compared with.

    There are none for the Stable SGD paper: published.csv has the rows of the TAG paper only, and an experiment of the
    former must not be compared with the latter, even on a benchmark that both use.
    """
    rows = read_published()
    return rows if experiment.paper == "TAG" else rows.iloc[:0]


def _how(experiment: Experiment, records: Records) -> Section:
    """Section of the report: how many runs there are of each method, where they ran and how long they took."""
    rows = []
    for table in experiment.tables:
        for method in table.methods:
            found = [records[method, seed] for seed in table.seeds if (method, seed) in records]
            seconds = [record["seconds"] for record in found if record["seconds"]]
            typical = f"{median(seconds):.0f}" if seconds else "none"
            rows.append([method, table.title, f"{len(found)} of {len(table.seeds)}", typical])
    machines = sorted({_machine(record["machine"]) for record in records.values()})
    commits = sorted({record["commit"][:12] for record in records.values()})
    text = [
        f"Machines: {'; '.join(machines)}. Commits: {', '.join(commits)}.",
        "Every run is kept in runs/, with the hashes of its plan and data. A run that is missing is counted, not guessed. "
        "Seconds are those of a whole run, all evaluations included; other work on the machine may have slowed it.",
    ]
    return Section("How it was run", text, Table(["method", "table", "runs", "median seconds"], rows))


def _machine(machine: Mapping[str, Any]) -> str:
    words = [machine.get("processor"), machine.get("device"), f"{machine.get('threads', '?')} thread", "torch"]
    return ", ".join(str(word) for word in words if word) + f" {machine.get('torch', '?')}"


def state(experiment: Experiment, records: Records) -> str:
    """Return how many of an experiment's runs are done, such as "3 of 15 runs"."""
    return f"{len(records)} of {len(experiment.runs)} runs"


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


def _planned(experiment: Experiment) -> Counter[str]:
    """Number of runs planned for each method."""
    return Counter(method for method, _ in experiment.runs)


def _missing(experiment: Experiment, runs: pd.DataFrame) -> Counter[str]:
    """Number of runs that each method still lacks."""
    return _planned(experiment) - Counter(runs["method"])


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
