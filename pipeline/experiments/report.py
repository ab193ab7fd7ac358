"""Write up an experiment's records: results/<experiment>/."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from statistics import median
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from pipeline.analysis.published import Comparison, compare, read_published
from pipeline.analysis.summary import summarize, summary_table
from pipeline.analysis.tables import tables
from pipeline.config import Configuration
from pipeline.experiments.experiments import Experiment, plans
from pipeline.experiments.records import RESULTS, as_run
from pipeline.figures import FIGURES, draw_all
from pipeline.report.report import report
from pipeline.report.writing import Section, Table, as_markdown
from pipeline.support.files import whole_files, write_json

#: The table of the runs, in the folder of an experiment.
RUNS = "runs.csv"
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
    summary = summarize(runs)
    table = summary_table(summary, experiment.benchmark, runs)
    published = published_rows(experiment)
    read = [(record.get("sources") or {}).items() for record in records.values()]
    names = sorted({name for pairs in read for name, _ in pairs})
    sources = {name: "; ".join(sorted({told for pairs in read for of, told in pairs if of == name})) for name in names}
    drawn_classes = {seed: record["classes"] for (_, seed), record in sorted(records.items()) if record.get("classes")}
    stream = {
        **data.model_dump(exclude_none=True),
        "benchmark": experiment.benchmark,
        "sources": sources,
        "drawn": drawn_classes,
    }
    number = len(next(iter(records.values()))["accuracy"][0])
    params = configuration.params
    options = {"reference": params.figures.reference, "seeds": planned(experiment), "here": False}
    with whole_files(RESULTS / name, [f"{figure}.png" for figure in FIGURES]) as folder:
        (folder / RUNS).write_text(_listed(runs, records), encoding="utf-8")
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


def is_told(name: str, records: Records) -> bool:
    """Whether results/<name>/ tells of all of these records, by its table of the runs."""
    path = RESULTS / name / RUNS
    if not path.exists():
        return False
    runs = tables([as_run(record) for record in records.values()])["runs"]
    return set(_listed(runs, records).splitlines()) <= set(path.read_text(encoding="utf-8").splitlines())


def _listed(runs: pd.DataFrame, records: Records) -> str:
    """The table of the runs, with the seconds and the commit of each, as CSV."""
    of_each = [records[key] for key in zip(runs["method"], runs["seed"], strict=True)]
    listed = runs.assign(
        seconds=[record["seconds"] for record in of_each], commit=[record["commit"][:12] for record in of_each]
    )
    return listed.to_csv(index=False, lineterminator="\n")


def published_rows(experiment: Experiment) -> pd.DataFrame:
    """Return the published rows that an experiment is compared with.

    There are none for the Stable SGD paper: published.csv has no rows of it, and its experiments must not be compared with
    those of the TAG paper, even on a benchmark that both use.
    """
    rows = read_published()
    return rows if experiment.paper != "Stable SGD" else rows.iloc[:0]


def planned(experiment: Experiment) -> Counter[str]:
    """Return the number of runs planned for each method."""
    return Counter(method for method, _ in experiment.runs)


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
        *on_gpus(records),
        "Every run is kept in runs/, with the hashes of its plan and data. A run that is missing is counted, not guessed. "
        "Seconds are those of a whole run, all evaluations included; other work on the machine may have slowed it.",
    ]
    return Section("How it was run", text, Table(["method", "table", "runs", "median seconds"], rows))


def on_gpus(records: Records) -> list[str]:
    """Say which runs were made on a GPU: a run there and one on a CPU end with other single numbers.

    Args:
        records: Method and seed of each run -> its record.

    Returns:
        A sentence for each kind of GPU, and then for the runs of which no machine is known; none if no run is known to
        have been made on a GPU.
    """
    unknown = "machines that are not known"
    found: dict[str, dict[str, list[int]]] = {}
    for (method, seed), record in records.items():
        found.setdefault(record["machine"].get("device", unknown), {}).setdefault(method, []).append(seed)
    on_cpus = found.pop("cpu", {})
    if set(found) <= {unknown}:
        return []
    sentences = []
    for device, methods in sorted(found.items(), key=lambda pair: (pair[0] == unknown, pair[0])):
        named = [f"{method} ({', '.join(map(str, sorted(seeds)))})" for method, seeds in methods.items()]
        sentences.append(f"Runs on {device}, with their seeds: {', '.join(named)}.")
    if on_cpus:
        sentences[-1] += " All others on a CPU."
    return sentences


def _machine(machine: Mapping[str, Any]) -> str:
    words = [machine.get("processor"), machine.get("device"), f"{machine.get('threads', '?')} thread", "torch"]
    return ", ".join(str(word) for word in words if word) + f" {machine.get('torch', '?')}"


def state(experiment: Experiment, records: Records) -> str:
    """Return how many of an experiment's runs are done, such as "3 of 15 runs"."""
    return f"{len(records)} of {len(experiment.runs)} runs"
