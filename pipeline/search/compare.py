"""Compare two versions of the results: what changed, and whether it is more than seeds do.

    tag-pipeline compare [OLD] [NEW] [--methods METHOD,METHOD]

OLD and NEW are revisions of Git or names of DVC experiments; HEAD and the workspace unless given, as for
`dvc metrics diff`. That command tells how far the means moved; this one pairs the runs by seed and gives the 95 %
interval of the change.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.analysis.intervals import Estimate, paired_difference
from pipeline.analysis.tables import METRICS
from pipeline.config import (
    Configuration,
    read_configuration,
    read_data_plan,
    read_run_plan,
    resolve_data,
    resolve_run,
)
from pipeline.handover.plots import PLOTS
from pipeline.handover.tables import read_table
from pipeline.parallel.dvc import experiments, open_repository, read_at
from pipeline.parallel.lockfile import LOCK, parse, plain_blocks
from pipeline.search.best import CONFIGURATION, flat
from pipeline.support.errors import UserError, nearest, note
from pipeline.support.files import significant, write_text
from pipeline.support.git import git, git_or_none

#: What the files on disk are called in messages and headings.
WORKSPACE = "workspace"
#: One row for each run, with its metrics.
RUNS = "plots/runs.csv"
#: The only one of METRICS that is no fraction.
NO_FRACTION = "largest_eigenvalue"


@dataclass(frozen=True)
class Version:
    """The results of one revision, or of the workspace.

    Attributes:
        name: As the user named it.
        benchmark: Name of the benchmark.
        runs: Metrics by method and seed, a row for each run.
        settings: The resolved settings of each method, flattened: optimizer.lr -> 0.1.
        common: Those that all methods share, of the data, the eigenspectrum and the arithmetic.
    """

    name: str
    benchmark: str
    runs: pd.DataFrame
    settings: Mapping[str, Mapping[str, Any]]
    common: Mapping[str, Any]

    def values(self, method: str, metric: str) -> dict[int, float]:
        """Return a metric of a method by seed, where it was measured."""
        if metric not in self.runs:
            return {}
        column = self._of([method]).set_index("seed")[metric].dropna()
        return {int(seed): float(value) for seed, value in zip(column.index, column, strict=True)}

    def seeds(self, methods: Sequence[str]) -> set[int]:
        """Return the seeds that some of the methods ran with."""
        return set(self._of(methods)["seed"])

    def metrics(self, methods: Sequence[str]) -> list[str]:
        """Return the metrics that some run of the methods has."""
        rows = self._of(methods)
        return [metric for metric in METRICS if metric in rows and rows[metric].notna().any()]

    def _of(self, methods: Sequence[str]) -> pd.DataFrame:
        return self.runs[self.runs["method"].isin(methods)]


def read_version(name: str | None) -> Version:
    """Read the results of a revision or an experiment; None or "workspace" for the workspace.

    Raises:
        UserError: if there is no such revision, if this version of the project cannot read it, or if its results are not to
            be had.
    """
    if name is None or name == WORKSPACE:
        configuration = read_configuration()
        runs = read_table(RUNS, PLOTS["runs"], "run 'dvc repro'")
        if stale := _stale(configuration):
            note("compare", f"the {WORKSPACE}'s results may be older than its files: {stale}")
        return _version(WORKSPACE, configuration, runs)
    commit = _commit(name)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for file in CONFIGURATION:
            text = git_or_none("show", f"{commit}:./{file}")
            if text is None:
                raise UserError(f"{name}: has no {file}; name a revision of this project")
            write_text(folder / file, text)
        try:
            configuration = read_configuration(folder)
            _check_that_they_are_its_results(commit, configuration)
            write_text(folder / "runs.csv", read_at(commit, RUNS))
            runs = read_table(folder / "runs.csv", PLOTS["runs"], "run 'dvc repro' in a checkout of it")
            return _version(name, configuration, runs)
        except UserError as error:
            raise UserError(
                f"{name}: {str(error).replace(f'{folder}/', '')}; it cannot be compared from here"
            ) from None


def _check_that_they_are_its_results(commit: str, configuration: Configuration) -> None:
    """Raise UserError if a commit's table of the runs is, by its dvc.lock, of another benchmark, other methods or seeds.

    As where params.yaml was committed without a run, or where an experiment keeps the metrics of its methods alone.
    """
    stages = plain_blocks((git_or_none("show", f"{commit}:./{LOCK}") or "") + "\n") or []
    locked = parse([stage for stage in stages if stage[0] == "summarize"])["stages"]  # the others are many
    made = locked.get("summarize", {}).get("params", {}).get("params.yaml", {})
    params = configuration.params.model_dump(include=set(made))
    if other := [key for key, value in made.items() if params.get(key) != value]:
        raise UserError(
            f"its {RUNS} is not of its params.yaml ({', '.join(other)}); run 'make repro' there, or, for a published "
            "experiment, see results/"
        )


def _commit(name: str) -> str:
    """The hash that a revision or an experiment stands for: as in DVC, Git is asked first, then the experiments of HEAD."""
    found = git_or_none("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if found is not None and re.fullmatch("[0-9a-f]{40,64}", found):
        return found
    every = experiments()
    if not (named := [commit for other, commit in every if other == name]):
        known = {other for other, _ in every}
        raise UserError(f"'{name[:80]}': neither a revision of Git nor an experiment; {nearest(name, known)}")
    if len(named) > 1:
        head = git("rev-parse", "HEAD")
        named = [commit for commit in named if git_or_none("rev-parse", f"{commit}^") == head] or named
    if len(named) > 1:
        raise UserError(f"{name}: {len(named)} experiments are called so; name one by its hash: {', '.join(named)}")
    return named[0]


def _stale(configuration: Configuration) -> str:
    """Why the results may not be those of the files: stages that would run and may change a result, if there are any.

    Not `figures`, and `plan` only if it would write other plans.
    """
    try:
        with open_repository() as repository:
            stale = repository.changed(list(repository.dependencies())) - {"figures"}
        same = (
            all(
                read_run_plan(f"runs/{method}.yaml").model_dump() == resolve_run(configuration, method).model_dump()
                for method in configuration.params.methods
            )
            and read_data_plan("runs/data.yaml").model_dump() == resolve_data(configuration).model_dump()
        )
    except UserError as error:
        return str(error)
    if same:
        stale -= {"plan"}
    named = ", ".join([*sorted(stale)[:3], *(["..."] if len(stale) > 3 else [])])
    return f"'dvc repro' would run or restore {named}" if stale else ""


def _version(name: str, configuration: Configuration, runs: pd.DataFrame) -> Version:
    methods = configuration.params.methods
    plans = {method: resolve_run(configuration, method).model_dump(exclude_none=True) for method in methods}
    params = configuration.params.model_dump(include={"eigenspectrum", "compute"})
    common = {"data": resolve_data(configuration).model_dump(exclude_none=True), **params}
    return Version(
        name,
        configuration.params.benchmark,
        runs,
        {method: dict(flat({k: v for k, v in plan.items() if k != "method"})) for method, plan in plans.items()},
        dict(flat(common)),
    )


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the settings that differ, each as 'optimizer.lr 0.2 -> 0.05'; '-' for one that is not there."""
    keys = dict.fromkeys([*old, *new])
    return [f"{key} {old.get(key, '-')} -> {new.get(key, '-')}" for key in keys if old.get(key) != new.get(key)]


def differences(old: Version, new: Version, method: str) -> pd.DataFrame:
    """Tabulate how the metrics of a method changed from one version to the other.

    Returns:
        A row for each metric that at least one seed has in both: its mean over these seeds in either version, the mean
        change, its 95 % interval (None for a single seed), the number of seeds, and whether all values are equal.
    """
    rows: list[dict[str, Any]] = []
    for metric in METRICS:
        before, after = old.values(method, metric), new.values(method, metric)
        found = paired_difference(after, before)
        if found is None:
            continue
        seeds = sorted(set(before) & set(after))
        rows.append(
            {
                "metric": metric,
                "old": sum(before[seed] for seed in seeds) / len(seeds),
                "new": sum(after[seed] for seed in seeds) / len(seeds),
                "change": found,
                "seeds": len(seeds),
                "equal": all(before[seed] == after[seed] for seed in seeds),
            }
        )
    return pd.DataFrame(rows, columns=["metric", "old", "new", "change", "seeds", "equal"])


def compare(old: str | None, new: str | None, methods: str | None) -> None:
    """Print what changed from one version of the results to another.

    Args:
        old: A revision or an experiment; None for HEAD.
        new: A revision or an experiment; None for the workspace.
        methods: Names of methods, separated by commas; None for all that both versions have.

    Raises:
        UserError: as `read_version` does, or if a method is unknown, or if the two have no run in common.
    """
    before, after = versions = read_version(old or "HEAD"), read_version(new)
    if before.benchmark != after.benchmark:
        raise UserError(
            f"{before.name} ran {before.benchmark} and {after.name} {after.benchmark}: their seeds are no pairs; compare two "
            "of one benchmark"
        )
    shared = [method for method in before.settings if method in after.settings]
    chosen = methods.split(",") if methods else shared
    for method in chosen:
        if method not in shared:
            raise UserError(f"--methods {method[:80]}: not in both; {nearest(method, shared)}")
    tables = {method: differences(before, after, method) for method in chosen}
    unpaired = [method for method, table in tables.items() if not len(table)]
    if len(unpaired) == len(tables):
        raise UserError(f"{before.name} and {after.name}: no method has a seed in both; see 'dvc metrics diff'")
    print(
        f"{before.name} -> {after.name}, paired by seed, with 95 % intervals (* if they do not hold 0); "
        f"all but {NO_FRACTION} in percentage points"
    )
    if common := changes(before.common, after.common):
        print(f"\nfor all methods: {'; '.join(common)}")
    same: dict[int, list[str]] = {}
    for method, table in tables.items():
        set_otherwise = changes(before.settings[method], after.settings[method])
        if method in unpaired:
            continue
        if table["equal"].all() and not set_otherwise:
            same.setdefault(int(table["seeds"].max()), []).append(method)
            continue
        print(f"\n{method}: {'; '.join(set_otherwise) or 'the same settings'}")
        seeds = int(table["seeds"].max())
        print(f"the same in {_seeds(seeds)}" if table["equal"].all() else _shown(table, before, after))
    for seeds, equal in same.items():
        print(f"\nthe same in {_seeds(seeds)}: {', '.join(equal)}")
    if unpaired:
        print(f"\nwithout a seed in both: {', '.join(unpaired)}")
    for version, other in (versions, versions[::-1]):
        only = [] if methods else [f"method {method}" for method in version.settings if method not in other.settings]
        paired = [method for method in chosen if method not in unpaired]
        only += [f"seed {seed}" for seed in sorted(version.seeds(paired) - other.seeds(paired))]
        only += [f"metric {metric}" for metric in version.metrics(paired) if metric not in other.metrics(paired)]
        if only:
            print(f"\nonly in {version.name}: {', '.join(only)}")


def _seeds(count: int) -> str:
    return f"all {count} seeds of both" if count > 1 else "the one seed of both"


def _shown(table: pd.DataFrame, before: Version, after: Version) -> str:
    rows: Sequence[Mapping[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
    cells = [
        [
            row["metric"],
            _number(row["metric"], row["old"]),
            _number(row["metric"], row["new"]),
            _number(row["metric"], row["change"].mean, sign="+"),
            _interval(row["metric"], row["change"]),
            row["seeds"],
        ]
        for row in rows
    ]
    # As lists: a version may be called as a column is.
    headings = ["", before.name, after.name, "change", "95 % interval", "seeds"]
    return pd.DataFrame(cells, columns=pd.Index(headings)).to_string(index=False)


def _number(metric: str, value: float, sign: str = "") -> str:
    if metric == NO_FRACTION:
        return f"{significant(value, 3):{sign}g}"
    return f"{round(100 * value, 1) + 0.0:{sign}.1f}"  # + 0.0: not -0.0


def _interval(metric: str, change: Estimate) -> str:
    if change.low is None or change.high is None:
        return "of one seed: none"
    if change.std == 0:
        return "equal in all seeds  "
    star = " *" if change.low > 0 or change.high < 0 else "  "
    return f"[{_number(metric, change.low, '+')}, {_number(metric, change.high, '+')}]{star}"
