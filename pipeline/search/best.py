"""The best setting that experiments have found, on validation data.

    python -m pipeline.search.best [METHOD ...] [--metric average_accuracy] [--evaluation validation]

Compares all of DVC's experiments here (`dvc exp run`, `dvc exp run --queue`), method by method: their resolved plans, of
which it shows what differs, and their metrics, the best first. Experiments that were judged on test images are left out and
told: a search must not look at them.
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

from pipeline.analysis.summary import METRICS
from pipeline.config import read_configuration, resolve_data, resolve_run
from pipeline.config.arguments import Parser
from pipeline.handover.runs import MethodMeasures
from pipeline.parallel.dvc import experiments
from pipeline.support.errors import UserError, nearest, run_stage
from pipeline.support.git import git_or_none

CONFIGURATION = ("params.yaml", "benchmarks.yaml", "methods.yaml")
#: Of these the least is best.
LOWER = ("forgetting", "forgetting_paper", "largest_eigenvalue", "movement_overlap")


@dataclass(frozen=True)
class Found:
    """One method of one experiment. settings: its resolved plan and data, flat. metrics: means over the seeds."""

    experiment: str
    method: str
    evaluation: str
    seeds: int
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]


def read_experiment(name: str, commit: str) -> Iterator[Found]:
    """Its methods that have metrics."""
    with tempfile.TemporaryDirectory() as folder:
        for file in CONFIGURATION:
            text = git_or_none("show", f"{commit}:{file}")
            if text is None:
                return
            Path(folder, file).write_text(text, encoding="utf-8")
        try:
            configuration = read_configuration(folder)
            plans = {method: resolve_run(configuration, method) for method in configuration.params.methods}
        except UserError as error:  # of an older version of the project
            print(f"best: {name} left out: {error}", file=sys.stderr)
            return
    data = resolve_data(configuration).model_dump(exclude_none=True)
    for method in configuration.params.methods:
        text = git_or_none("show", f"{commit}:metrics/methods/{method}.json")
        if text is None:
            continue
        try:
            measured = MethodMeasures.model_validate_json(text, strict=True).root
        except ValidationError:
            print(f"best: {name} left out: its metrics/methods/{method}.json is damaged", file=sys.stderr)
            return
        plan = plans[method].model_dump(exclude_none=True, exclude={"method"})
        yield Found(
            name,
            method,
            configuration.benchmark.evaluation,
            len(configuration.params.seeds),
            dict(_flat({"benchmark": configuration.params.benchmark, **plan, "data": data})),
            measured,
        )


def compare(found: Sequence[Found], metric: str) -> pd.DataFrame:
    """Of one method: the settings in which its experiments differ, the metrics, the best first. Equal settings are told once,
    by the last experiment's name."""
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


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}{key}.")
    else:
        yield prefix.removesuffix("."), value


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Parser("pipeline.search.best", __doc__)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="default: all that experiments hold")
    parser.add_argument("--metric", default="average_accuracy", help="default: %(default)s")
    parser.add_argument(
        "--evaluation", choices=["validation", "test"], default="validation", help="default: %(default)s"
    )
    given = parser.parse_args(arguments)
    if given.metric not in METRICS:
        raise UserError(f"--metric {given.metric}: unknown; {nearest(given.metric, METRICS)}")
    every = [entry for pair in experiments() for entry in read_experiment(*pair)]
    if missing := set(given.methods) - {entry.method for entry in every}:
        raise UserError(f"no experiment here holds {', '.join(sorted(missing))}; see 'dvc exp list', or run some")
    wanted = [entry for entry in every if not given.methods or entry.method in given.methods]
    fitting = [entry for entry in wanted if entry.evaluation == given.evaluation]
    if left := {entry.experiment for entry in wanted} - {entry.experiment for entry in fitting}:
        print(f"{len(left)} experiments left out: not judged on {given.evaluation} images ({', '.join(sorted(left))})")
    if not fitting:
        raise UserError(
            f"no finished experiment was judged on {given.evaluation} images; run some with "
            "-S benchmarks.yaml:BENCHMARK.evaluation=validation (docs/running.md, Searching)"
        )
    for method in dict.fromkeys(entry.method for entry in fitting):
        table = compare([entry for entry in fitting if entry.method == method], given.metric)
        print(f"\n{method}: the best of {len(table)}\n{table.to_string(index=False)}")


if __name__ == "__main__":
    run_stage("best", main)
