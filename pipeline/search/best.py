"""Show the best settings that DVC experiments have found on validation data.

    tag-pipeline best [METHOD ...] [--metric average_accuracy] [--evaluation validation]

Compares all DVC experiments of this repository (`dvc exp run`, `dvc exp run --queue`), method by method, and lists them
best first: the resolved settings in which they differ, and the metric. Experiments that were evaluated on test images
are left out, and the output says which: a search must not look at test images.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from pipeline.analysis.summary import COMPARED
from pipeline.config import Configuration, read_configuration, resolve_data, resolve_run
from pipeline.handover.runs import MethodMeasures
from pipeline.parallel.dvc import experiments
from pipeline.support.errors import UserError, nearest
from pipeline.support.git import git_or_none

CONFIGURATION = ("params.yaml", "benchmarks.yaml", "methods.yaml")
#: Those of COMPARED of which the lowest value is best; of the others it is the highest.
LOWER = ("forgetting", "largest_eigenvalue")


@dataclass(frozen=True)
class Found:
    """One method of one experiment.

    Attributes:
        experiment: Name of the experiment.
        method: Name of the method.
        evaluation: The images it was evaluated on, test or validation.
        seeds: Number of seeds.
        settings: Its resolved plan and that of its data, flattened: optimizer.lr -> 0.1.
        metrics: Mean of each metric over the seeds and, as <metric>_std, the standard deviation.
    """

    experiment: str
    method: str
    evaluation: str
    seeds: int
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]


def read_experiment(name: str, commit: str) -> Iterator[Found]:
    """Yield the methods of an experiment that have metrics.

    An experiment that this version of the project cannot read yields nothing, and a damaged file of metrics ends the
    iteration; both are reported on stderr.

    Args:
        name: Name of the experiment.
        commit: Hash of the commit in which DVC keeps it.
    """
    with tempfile.TemporaryDirectory() as folder:
        for file in CONFIGURATION:
            text = git_or_none("show", f"{commit}:./{file}")
            if text is None:
                return
            Path(folder, file).write_text(text, encoding="utf-8")
        try:
            configuration = read_configuration(folder)
            plans = {method: resolve_run(configuration, method) for method in configuration.params.methods}
        except UserError as error:  # the experiment is from an older version of the project
            print(f"best: {name} left out: {error}", file=sys.stderr)
            return
    data = resolve_data(configuration).model_dump(exclude_none=True)
    spectra = configuration.params.eigenspectrum.model_dump(exclude_none=True)
    measures: dict[str, Any] = {}
    for method in configuration.params.methods:
        text = git_or_none("show", f"{commit}:./metrics/methods/{method}.json")
        if text is None:
            continue
        try:
            measures[method] = MethodMeasures.model_validate_json(text, strict=True).root
        except ValidationError:
            print(f"best: {name} left out: its metrics/methods/{method}.json is damaged", file=sys.stderr)
            return
    for method, measured in measures.items():
        plan = plans[method].model_dump(exclude_none=True, exclude={"method"})
        yield Found(
            name,
            method,
            configuration.benchmark.evaluation,
            len(configuration.params.seeds),
            dict(flat({"benchmark": configuration.params.benchmark, **plan, "data": data, "eigenspectrum": spectra})),
            measured,
        )


def compare(found: Sequence[Found], metric: str) -> pd.DataFrame:
    """Tabulate the experiments of one method, best first.

    Of several experiments with the same settings and number of seeds, only the last is listed.

    Args:
        found: The experiments, all of the same method.
        metric: Name of the metric to sort by.

    Returns:
        A row for each experiment: its name, the settings in which the experiments differ, the number of seeds, and the
        metric's mean and standard deviation. Columns that are empty throughout are left out.
    """
    keys = dict.fromkeys(key for entry in found for key in entry.settings)
    differing = [key for key in keys if len({str(entry.settings.get(key)) for entry in found}) > 1]
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for entry in found:
        same = (*(str(entry.settings.get(key)) for key in differing), str(entry.seeds))
        rows[same] = {
            "experiment": entry.experiment,
            **{key.removeprefix("optimizer.").removeprefix("regime."): entry.settings.get(key) for key in differing},
            "seeds": entry.seeds,
            metric: entry.metrics.get(metric),
            f"{metric}_std": entry.metrics.get(f"{metric}_std"),
        }
    table = pd.DataFrame(list(rows.values())).dropna(axis="columns", how="all")
    return table.sort_values(metric, ascending=metric in LOWER, na_position="last").reset_index(drop=True)


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings, each with its keys joined by dots: optimizer.lr -> 0.1."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, f"{prefix}{key}.")
    else:
        yield prefix.removesuffix("."), value


def assigned(configuration: Configuration, evaluation: str) -> str:
    """Write what `dvc exp run -S` takes to have the configured benchmark judged on validation or test images.

    A key that the file does not have yet needs a plus.
    """
    plus = "" if "evaluation" in configuration.benchmark.model_fields_set else "+"
    return f"benchmarks.yaml:{plus}{configuration.params.benchmark}.evaluation={evaluation}"


def best(methods: Sequence[str], metric: str = "average_accuracy", evaluation: str = "validation") -> None:
    """Print the experiments of each method, best first.

    Args:
        methods: Names of methods; none means all methods of the experiments.
        metric: Name of the metric to compare by, of COMPARED: an experiment keeps no others.
        evaluation: The images that the experiments must have been judged on, validation or test.

    Raises:
        UserError: if the metric is unknown, or if no finished experiment matches.
    """
    if metric not in COMPARED:
        raise UserError(f"--metric {metric}: unknown; {nearest(metric, COMPARED)}")
    every = [entry for pair in experiments() for entry in read_experiment(*pair)]
    if missing := set(methods) - {entry.method for entry in every}:
        raise UserError(f"no experiment here holds {', '.join(sorted(missing))}; see 'dvc exp list', or run some")
    wanted = [entry for entry in every if not methods or entry.method in methods]
    fitting = [entry for entry in wanted if entry.evaluation == evaluation]
    if left := {entry.experiment for entry in wanted} - {entry.experiment for entry in fitting}:
        print(f"{len(left)} experiments left out: not judged on {evaluation} images ({', '.join(sorted(left))})")
    if not fitting:
        raise UserError(
            f"no finished experiment was judged on {evaluation} images; run some with "
            f"-S {assigned(read_configuration(), evaluation)} (docs/running.md, Searching)"
        )
    if not any(metric in entry.metrics for entry in fitting):
        raise UserError(f"--metric {metric}: none of the experiments measured it")
    for method in dict.fromkeys(entry.method for entry in fitting):
        of_method = [entry for entry in fitting if entry.method == method and metric in entry.metrics]
        if not of_method:
            continue
        table = compare(of_method, metric)
        print(f"\n{method}: the best of {len(table)}\n{table.to_string(index=False)}")
