"""Compare two versions of the results: what changed, and whether it is more than seeds do.

    tag-pipeline compare [OLD] [NEW] [--methods METHOD,METHOD]

OLD and NEW are revisions of Git or names of DVC experiments; HEAD and the workspace unless given, as for
`dvc metrics diff`. That command tells how far the means moved; this one pairs the runs by seed and gives the 95 %
interval of the change.
"""

from __future__ import annotations

import sys
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
from pipeline.search.best import CONFIGURATION, flat
from pipeline.support.errors import UserError, nearest
from pipeline.support.files import significant, write_text
from pipeline.support.git import git_or_none

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
        runs: Metrics by method and seed, a row for each run.
        settings: The resolved settings of each method, flattened: optimizer.lr -> 0.1.
        common: Those that all methods share, of the data, the eigenspectrum and the arithmetic.
    """

    name: str
    runs: pd.DataFrame
    settings: Mapping[str, Mapping[str, Any]]
    common: Mapping[str, Any]

    def values(self, method: str, metric: str) -> dict[int, float]:
        """Return a metric of a method by seed, where it was measured."""
        if metric not in self.runs:
            return {}
        column = self.runs[self.runs["method"] == method].set_index("seed")[metric].dropna()
        return {int(seed): float(value) for seed, value in zip(column.index, column, strict=True)}


def read_version(name: str | None) -> Version:
    """Read the results of a revision or an experiment; None or "workspace" for the workspace.

    Raises:
        UserError: if there is no such revision, or if its results cannot be read or are not in DVC's cache.
    """
    if name in (None, WORKSPACE):
        configuration = read_configuration()
        runs = read_table(RUNS, PLOTS["runs"], "run 'dvc repro'")
        if stale := _stale(configuration):
            named = ", ".join([*sorted(stale)[:3], *(["..."] if len(stale) > 3 else [])])
            print(
                f"compare: note: the {WORKSPACE}'s results are older than its files (stale: {named}); run 'dvc repro' first",
                file=sys.stderr,
            )
        return _version(WORKSPACE, configuration, runs)
    by_name = dict(experiments())
    commit = by_name.get(name) or git_or_none("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if commit is None:
        raise UserError(f"'{name[:80]}': neither a revision of Git nor an experiment; {nearest(name, by_name)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for file in CONFIGURATION:
            text = git_or_none("show", f"{commit}:{file}")
            if text is None:
                raise UserError(f"{name}: has no {file}; name a revision of this project")
            write_text(folder / file, text)
        try:
            configuration = read_configuration(folder)
        except UserError as error:
            raise UserError(f"{name}: {error} (or compare from a checkout that still reads it)") from None
        fix = f"run 'dvc repro' there, or fetch it: dvc fetch --all-commits {RUNS}"
        text = read_at(commit, RUNS)
        if text is None:
            raise UserError(f"{name}: {RUNS} is not in DVC's cache; {fix}")
        write_text(folder / "runs.csv", text)
        return _version(name, configuration, read_table(folder / "runs.csv", PLOTS["runs"], fix))


def _stale(configuration: Configuration) -> set[str]:
    """The stages that would run and may change a result: not `figures`, and `plan` only if it would write other plans."""
    with open_repository() as repository:
        stale = repository.changed(list(repository.dependencies())) - {"figures"}
    try:
        same = (
            all(
                read_run_plan(f"runs/{method}.yaml").model_dump() == resolve_run(configuration, method).model_dump()
                for method in configuration.params.methods
            )
            and read_data_plan("runs/data.yaml").model_dump() == resolve_data(configuration).model_dump()
        )
    except UserError:
        return stale
    return stale - {"plan"} if same else stale


def _version(name: str, configuration: Configuration, runs: pd.DataFrame) -> Version:
    methods = configuration.params.methods
    plans = {method: resolve_run(configuration, method).model_dump(exclude_none=True) for method in methods}
    params = configuration.params.model_dump(include={"benchmark", "eigenspectrum", "compute"})
    common = {"data": resolve_data(configuration).model_dump(exclude_none=True), **params}
    return Version(
        name,
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
    versions = read_version(old or "HEAD"), read_version(new)
    before, after = versions
    shared = [method for method in before.settings if method in after.settings]
    chosen = methods.split(",") if methods else shared
    for method in chosen:
        if method not in shared:
            raise UserError(f"--methods {method[:80]}: not in both; {nearest(method, shared)}")
    tables = {method: differences(before, after, method) for method in chosen}
    tables = {method: table for method, table in tables.items() if len(table)}
    if not tables:
        raise UserError(f"{before.name} and {after.name}: no method has a seed in both; see 'dvc metrics diff'")
    print(
        f"{before.name} -> {after.name}, paired by seed, with 95 % intervals (* if they do not hold 0); "
        f"all but {NO_FRACTION} in percentage points"
    )
    if common := changes(before.common, after.common):
        print(f"\nfor all methods: {'; '.join(common)}")
    for method, table in tables.items():
        set_otherwise = changes(before.settings[method], after.settings[method])
        if not table["equal"].all():
            print(f"\n{method}: {'; '.join(set_otherwise) or 'the same settings'}\n{_shown(table, before, after)}")
        elif set_otherwise:
            print(f"\n{method}: {'; '.join(set_otherwise)}\nthe same in every seed")
    if same := [m for m, t in tables.items() if t["equal"].all() and before.settings[m] == after.settings[m]]:
        print(f"\nthe same in every seed: {', '.join(same)}")
    if not methods:
        for version, other in (versions, versions[::-1]):
            if alone := [method for method in version.settings if method not in other.settings]:
                print(f"\nonly in {version.name}: {', '.join(alone)}")


def _shown(table: pd.DataFrame, before: Version, after: Version) -> str:
    rows: Sequence[Mapping[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
    return pd.DataFrame(
        [
            {
                "": row["metric"],
                before.name: _number(row["metric"], row["old"]),
                after.name: _number(row["metric"], row["new"]),
                "change": _number(row["metric"], row["change"].mean, sign="+"),
                "95 % interval": _interval(row["metric"], row["change"]),
                "seeds": row["seeds"],
            }
            for row in rows
        ]
    ).to_string(index=False)


def _number(metric: str, value: float, sign: str = "") -> str:
    if metric == NO_FRACTION:
        return f"{significant(value, 3):{sign}g}"
    return f"{100 * value:{sign}.1f}"


def _interval(metric: str, change: Estimate) -> str:
    if change.low is None or change.high is None:
        return "of one seed: none"
    star = " *" if change.low > 0 or change.high < 0 else "  "
    return f"[{_number(metric, change.low, '+')}, {_number(metric, change.high, '+')}]{star}"
