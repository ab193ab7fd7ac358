"""The command `tune`: search the settings of methods on validation data; the test images are never read.

    tag-pipeline tune METHOD [METHOD ...] KEY=VALUE,VALUE [KEY=LOW..HIGH ...] [--benchmark NAME] [--sampler grid]

Tries values with each seed and `evaluation: validation`, and writes every run to results/tuning/BENCHMARK/METHOD.csv
(--record NAME: NAME.csv), best average accuracy first. Copy the winner into benchmarks.yaml yourself.

What a search has done so far is in scratch/tune/BENCHMARK/METHOD/. It is no record: it holds dates, and cannot be read
as text. A search that is killed goes on from there, and ends as if it had not been (`study` says why).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import Configuration, read_configuration
from pipeline.config.arguments import cores
from pipeline.config.data import Folder
from pipeline.datasets.sources import fetch
from pipeline.datasets.weights import fetch_weights
from pipeline.search.search import BATCH, TRIALS, Search
from pipeline.search.space import Point, grid, identity, read_space
from pipeline.search.trials import MEASURES, Outcome, Work, bars, carry_out, end_with_the_search
from pipeline.streams.writer import write_tasks
from pipeline.support.alone import alone
from pipeline.support.errors import UserError, nearest
from pipeline.support.files import as_json, digest, whole_folder, write_text

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.search.study import Study

#: In the folder of the tasks of a search: the plan of its data.
WHOSE = "plan.json"
#: Default seeds of a search, different from those of any report.
SEEDS = (101, 102, 103)


def carry_out_search(search: Search, jobs: int) -> list[tuple[Point, list[Outcome]]]:
    """Run what is missing of a search.

    Args:
        search: The search.
        jobs: Number of trainings at once.

    Returns:
        The values of each trial, and what came out of its runs.

    Raises:
        UserError: if the data cannot be fetched, or if another process is at work on the search or has left one that
            is another or had other images.
    """
    from tqdm import tqdm

    from pipeline.search.record import refuse_another_search
    from pipeline.search.study import opened

    key, count = search.key(), search.count
    folder = search.folder
    refusal = f"another search is at work in {folder}; wait for it, or name this one with --record"
    with alone(folder / "lock", refusal), opened(folder / "study.db", search.space, key) as study:
        planned = grid(search.space) if search.sampler == "grid" else [point for point, _ in study.trials()[:count]]
        refuse_another_search(search.path, search.space, planned, search.seeds)
        # The plan of the data names one's own images by their folder, which may hold others by now.
        own = any(isinstance(dataset, Folder) for dataset in search.data.datasets)
        if own or len(study) < count:
            _write_data(folder / "tasks", search, again=own)
            if not study.is_of(digest(folder / "tasks" / "manifest.json", "sha256")):
                raise UserError(
                    f"{folder}: the trials of this search had other images than there are now; name a new search with "
                    f"--record NAME, or delete {folder}"
                )
        if len(study) < count:
            with (
                _processes(min(jobs, (count - len(study)) * len(search.seeds))) as pool,
                tqdm(total=count, initial=len(study), desc=f"tune {search.method}", unit="trial", disable=None) as bar,
            ):
                while len(study) < count:
                    _run_batch(search, study, pool, sha256(as_json(key).encode()).hexdigest(), bar)
        (folder / "tasks" / WHOSE).unlink(missing_ok=True)  # first: a folder without it is written anew
        for left in ("tasks", "runs"):  # all that counts is in the study
            shutil.rmtree(folder / left, ignore_errors=True)
        return study.trials()[:count]


def _run_batch(search: Search, study: Study, pool: ProcessPoolExecutor, key: str, bar: Any) -> None:
    """Run the trials of the batch that the next trial is in, and add them to the study in their order."""
    number = len(study)
    batch = search.batch if search.looks else search.count
    begun = number // batch * batch  # what is tried, and what is pruned, depends on the trials before this one alone
    end = min(begun + batch, search.count)
    if search.sampler == "grid":
        points = grid(search.space)[number:end]
    else:
        points = [study.propose(search.sampler, search.sampler_seed, trial, begun) for trial in range(number, end)]
    judged = bars(study.finished(begun)) if search.prune else None
    # A pruned trial is judged run by run, so that one process does them all.
    groups = [search.seeds] if search.prune else [(seed,) for seed in search.seeds]
    waiting: dict[Future[list[Outcome]], str] = {}
    found = {identity(point): outcomes for point, outcomes in study.trials()}  # a sampler may come back to a point
    for point in points:
        if identity(point) not in found:
            found[identity(point)] = []
            for seeds in groups:
                work = Work(search.plan(point), point, seeds, search.folder, key, judged)
                waiting[pool.submit(carry_out, work)] = identity(point)

    def add_those_that_are_whole() -> None:
        while points and identity(points[0]) not in waiting.values():
            point = points.pop(0)
            study.add(point, sorted(found[identity(point)], key=lambda outcome: search.seeds.index(outcome.seed)))
            bar.update()

    add_those_that_are_whole()
    for future in as_completed(list(waiting)):
        found[waiting.pop(future)] += future.result()
        add_those_that_are_whole()


@contextlib.contextmanager
def _processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes for the runs, which end with the block however it ends.

    Raises UserError if one of them ended on its own.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=end_with_the_search) as pool:
        try:
            yield pool
        except BrokenProcessPool:
            raise UserError("a training was ended from outside, perhaps for lack of memory; run it again") from None
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            pool.shutdown(cancel_futures=True)
            raise


def _write_data(folder: Path, search: Search, again: bool = False) -> None:
    """Write the tasks and the initial weights of a search, unless an earlier process has written the same; or `again`."""
    data = search.data
    whose, plan = folder / WHOSE, data.model_dump_json()
    if not again and whose.exists() and whose.read_text(encoding="utf-8") == plan:
        return
    with whole_folder(folder) as partial:
        (partial / WHOSE).write_text(plan, encoding="utf-8")
        write_tasks(partial, data, [fetch(dataset) for dataset in data.datasets])
        fetch_weights(partial, data.weights)


def tune(
    words: Sequence[str],
    benchmark: str | None = None,
    seeds: Sequence[int] | None = None,
    jobs: int | None = None,
    sampler: str = "grid",
    trials: int | None = None,
    sampler_seed: int | None = None,
    prune: bool = False,
    batch: int = BATCH,
    record: str | None = None,
) -> None:
    """Search settings of methods, one method after the other, and record all runs.

    Args:
        words: Names of methods, and what is tried, as `pipeline.search.space.read_space` takes it.
        benchmark: Name of the benchmark; None means that of params.yaml.
        seeds: The seeds of the trainings; None means `SEEDS`.
        jobs: Trainings at once; None means as many as there are cores.
        sampler: Which values are tried: one of `SAMPLERS`.
        trials: How many trials, other than for a grid; None means `TRIALS`.
        sampler_seed: The seed of the sampler, other than for a grid; None means 0.
        prune: Whether a trial is stopped that is below the median of the others.
        batch: How many trials do not look at each other's results.
        record: Name of the record; None means that of the method.

    Raises:
        UserError: if Optuna is missing, if an argument is wrong, or if the record would overwrite that of another search.
    """
    if find_spec("optuna") is None:
        raise UserError("needs Optuna; install it with: python -m pip install -c constraints.txt -e '.[search]'")
    configuration = read_configuration()
    benchmark = benchmark or configuration.params.benchmark
    if benchmark not in configuration.benchmarks:
        raise UserError(f"benchmarks.yaml has no '{benchmark}'; {nearest(benchmark, configuration.benchmarks, 40)}")
    params = configuration.params.model_copy(update={"benchmark": benchmark})
    configuration = Configuration(params, configuration.benchmarks, configuration.methods)
    methods = list(dict.fromkeys(word for word in words if "=" not in word))
    space = read_space([word for word in words if "=" in word])
    if not methods:
        raise UserError("name a method to tune, as in: tag-pipeline tune tag lr=0.0005,0.001")
    if record is not None and len(methods) > 1:
        raise UserError("--record: would be one record for several methods; tune one at a time")
    if sampler == "grid" and trials is not None:
        raise UserError("--trials: a grid has as many trials as points; leave it out, or take --sampler tpe or random")
    if sampler == "grid" and sampler_seed is not None:
        raise UserError("--sampler-seed: a grid draws nothing; leave it out, or take --sampler tpe or random")
    searches = [
        Search(
            configuration, method, space, tuple(seeds or SEEDS), sampler, sampler_seed or 0, trials or TRIALS, prune, batch,
            record or method,
        )
        for method in methods
    ]  # fmt: skip
    for search in searches:  # before any runs
        search.check()
    for search in searches:
        _record(search, jobs or cores())


def _mean_of_all(values: pd.Series) -> float:
    """The mean; NaN if a value is missing."""
    return float(values.mean(skipna=False))


def _record(search: Search, jobs: int) -> None:
    """Carry out a search, record it, and print its best values."""
    from pipeline.search.record import tabulate

    done = carry_out_search(search, jobs)
    table = tabulate(done, search.prune)
    write_text(search.path, table.to_csv(index=False, lineterminator="\n"))
    # A setting with a seed that diverged or was pruned has no mean: those of the other seeds would flatter it.
    means = table.groupby(list(search.space), sort=False)[list(MEASURES)].agg(_mean_of_all)
    means = means.iloc[:10] if not search.prune else means.dropna(how="all").iloc[:10]
    print(f"{search.method}:\n{means.round(4).to_string()}\nall {len(table)} runs of {len(done)} trials: {search.path}")
