"""Search the tuned values of a benchmark on validation data: the test images are never read.

    tag-pipeline tune BENCHMARK METHOD KEY=VALUE,VALUE... [KEY=...]  [--seeds 101,102,103] [--jobs 2]

Runs every combination of the values with each seed and `evaluation: validation`, and writes every run to
results/tuning/BENCHMARK/METHOD.csv (--record NAME: NAME.csv), best average accuracy first. Copy the winner into
benchmarks.yaml yourself.
"""

from __future__ import annotations

import itertools
import math
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pipeline.config import Configuration, RunPlan, read_configuration, resolve_data, resolve_run
from pipeline.config.arguments import cores
from pipeline.config.reading import check
from pipeline.config.schema import Benchmark, Method, Settings
from pipeline.datasets.sources import fetch
from pipeline.datasets.weights import FILE, fetch_weights
from pipeline.streams.reader import Tasks
from pipeline.streams.writer import write_tasks
from pipeline.support.errors import UserError, nearest
from pipeline.support.files import write_text

#: Default seeds of a search, different from those of any report.
SEEDS = (101, 102, 103)

#: A point of a grid: setting -> value.
Point = dict[str, Any]
#: The metrics that are kept of a run.
MEASURES = ("average_accuracy", "forgetting", "learning_accuracy")
#: The largest number of points that a grid may have.
MOST = 100_000


def grid(assignments: Sequence[str]) -> list[Point]:
    """Return every combination of the values that are given as in ['lr=0.1,0.2', 'dropout=0,0.1'].

    Raises:
        UserError: if an assignment is malformed, if a setting is unknown or named twice, or if there are more than
            `MOST` points.
    """
    axes: dict[str, list[Any]] = {}
    for assignment in assignments:
        key, separator, values = assignment.partition("=")
        if not separator or not values:
            raise UserError(f"'{assignment}': write KEY=VALUE,VALUE as in lr=0.1,0.2")
        if key not in Settings.model_fields:
            raise UserError(f"'{key}': unknown setting; {nearest(key, Settings.model_fields, 40)}")
        if key in axes:
            raise UserError(f"'{key}' stands twice; write all its values after one {key}=")
        axes[key] = [_value(word) for word in values.split(",")]
    if math.prod(map(len, axes.values())) > MOST:
        raise UserError(f"the grid has more than {MOST:,} points; leave some values out")
    return [dict(zip(axes, combination, strict=True)) for combination in itertools.product(*axes.values())]


def _value(word: str) -> Any:
    """A word as an int or a float, if it is one."""
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def plans(configuration: Configuration, method: str, points: Sequence[Point]) -> list[RunPlan]:
    """Resolve the plan of each point: the method with the point's values in place of its own.

    Raises:
        UserError: if the method is unknown, or if a value is not valid or not used by it.
    """
    if method not in configuration.methods:
        raise UserError(f"methods.yaml has no '{method}'; {nearest(method, configuration.methods, 40)}")
    resolved = []
    for point in points:
        own = configuration.methods[method].model_dump(exclude_none=True)
        changed = check(Method, own | point, f"methods.yaml: {method}.")
        resolved.append(
            resolve_run(
                Configuration(
                    configuration.params, configuration.benchmarks, {**configuration.methods, method: changed}
                ),
                method,
            )
        )
    return resolved


def _run(plan: RunPlan, folder: str, seed: int) -> dict[str, float]:
    """Train on the tasks in `folder`; the `MEASURES`, or nothing if training diverged."""
    import torch

    from pipeline.analysis.metrics import all_metrics
    from pipeline.config.schema import Compute
    from pipeline.support.compute import prepare
    from pipeline.support.errors import DivergenceError
    from pipeline.training.loop import train

    prepare(Compute(device="cpu", threads=1))
    try:
        weights = Path(folder, FILE) if plan.pretrained else None
        metrics = all_metrics(train(plan, Tasks.open(folder), seed, torch.device("cpu"), weights=weights).accuracy)
    except DivergenceError:
        return {}
    return {key: round(metrics[key], 6) for key in MEASURES if key in metrics}


def search(configuration: Configuration, method: str, points: Sequence[Point], seeds: Sequence[int], jobs: int) -> Any:
    """Run every point with every seed on validation data.

    Args:
        configuration: The configuration, whose benchmark is searched.
        method: Name of the method.
        points: The points, at least one, all with values of the same settings.
        seeds: The seeds.
        jobs: Number of runs at once.

    Returns:
        A data frame with a row for each run: the values of its point, the seed and the `MEASURES`. The point with the
        best mean average accuracy comes first. A run that diverged has no metrics, and its point comes last.

    Raises:
        UserError: if a plan cannot be resolved, or if the data cannot be fetched.
    """
    import pandas as pd
    from tqdm import tqdm

    data = resolve_data(_on_validation(configuration))
    work = [
        (point, plan, seed)
        for point, plan in zip(points, plans(configuration, method, points), strict=True)
        for seed in seeds
    ]
    with tempfile.TemporaryDirectory() as folder:
        write_tasks(Path(folder), data, [fetch(dataset) for dataset in data.datasets])
        fetch_weights(Path(folder), data.weights)
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(_run, plan, folder, seed) for _, plan, seed in work]
            found = [future.result() for future in tqdm(futures, desc=f"tune {method}", unit="run", disable=None)]
    keys = list(points[0])
    table = pd.DataFrame(
        [{**point, "seed": seed, **metrics} for (point, _, seed), metrics in zip(work, found, strict=True)],
        columns=[*keys, "seed", *MEASURES],  # all of them, even if every run diverged
    )
    score = table.groupby(keys)["average_accuracy"].transform(lambda values: values.mean(skipna=False))
    order = table.assign(score=score).sort_values(
        ["score", *keys, "seed"], ascending=[False, *[True] * len(keys), True]
    )
    return order.drop(columns="score").reset_index(drop=True)


def refuse_another_search(path: Path, points: Sequence[Point], seeds: Sequence[int]) -> None:
    """Refuse to overwrite the record of another search.

    Args:
        path: Where this search will be recorded.
        points: The points of this search.
        seeds: Its seeds.

    Raises:
        UserError: if the file holds anything but runs that this search will repeat.
    """
    import pandas as pd

    if not path.exists():
        return
    kept = {"seed", *points[0]}
    try:
        held = pd.read_csv(path, index_col=False, dtype=str, keep_default_na=False)
        found = {tuple(_plain(row[key]) for key in sorted(kept)) for row in held.to_dict("records")}
        only = set(held.columns) - set(MEASURES) == kept
    except (ValueError, KeyError, OSError):
        found, only = set(), False
    ours = {tuple(_plain({**point, "seed": seed}[key]) for key in sorted(kept)) for point in points for seed in seeds}
    if not only or not found <= ours:
        raise UserError(f"{path}: holds another search, which would be lost; name this one with --record NAME")


def _plain(value: Any) -> str:
    """Text of a value to compare by: the same for a number whether it is written as 1 or as 1.0."""
    try:
        return repr(float(value))
    except (TypeError, ValueError):
        return str(value)


def _on_validation(configuration: Configuration) -> Configuration:
    benchmark: Benchmark = configuration.benchmark.model_copy(update={"evaluation": "validation"})
    name = configuration.params.benchmark
    return Configuration(configuration.params, {**configuration.benchmarks, name: benchmark}, configuration.methods)


def tune(
    benchmark: str,
    method: str,
    assignments: Sequence[str],
    seeds: Sequence[int] | None = None,
    jobs: int | None = None,
    record: str | None = None,
) -> None:
    """Search a grid and record it.

    Args:
        benchmark: Name of the benchmark.
        method: Name of the method.
        assignments: The values of each setting, see `grid`.
        seeds: The seeds; None means `SEEDS`.
        jobs: Runs at once; None means as many as there are cores.
        record: Name of the record; None means that of the method.

    Raises:
        UserError: if an argument is wrong, or if the record would overwrite that of another search.
    """
    configuration = read_configuration()
    if benchmark not in configuration.benchmarks:
        raise UserError(f"benchmarks.yaml has no '{benchmark}'; {nearest(benchmark, configuration.benchmarks)}")
    params = configuration.params.model_copy(update={"benchmark": benchmark})
    configuration = Configuration(params, configuration.benchmarks, configuration.methods)
    chosen, points = seeds or SEEDS, grid(assignments)
    plans(configuration, method, points)
    path = Path("results/tuning") / benchmark / f"{record or method}.csv"
    refuse_another_search(path, points, chosen)
    table = search(configuration, method, points, chosen, jobs or cores())
    write_text(path, table.to_csv(index=False, lineterminator="\n"))
    keys = list(points[0])
    means = table.groupby(keys, sort=False)[list(MEASURES)].mean()
    print(means.round(4).head(10).to_string(), f"\nall {len(table)} runs: {path}", file=sys.stdout)
