"""The runs of a trial: one training for each seed, in a process of its own that ends with the search."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing import connection, parent_process
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from tqdm import tqdm

from pipeline.config.plan import RunPlan
from pipeline.search.space import Point, identity

if TYPE_CHECKING:
    from pipeline.training.recorder import Recorder

#: The metrics that are kept of a run.
MEASURES = ("average_accuracy", "forgetting", "learning_accuracy")
#: How many finished trials there must be before one is compared with their median.
ENOUGH = 3
#: The exit status of a process that ends with the search, the same as after SIGTERM (128 + 15).
ENDED = 143


@dataclass(frozen=True)
class Outcome:
    """What came out of one run.

    Attributes:
        seed: The seed of the run.
        ended: How it ended; a pruned run was stopped because the trial was below the median of the others.
        course: The average accuracy on the tasks learnt so far, a fraction, after each task.
        measures: The `MEASURES` that it has; none if it did not finish.
    """

    seed: int
    ended: Literal["finished", "diverged", "pruned"]
    course: list[float] = field(default_factory=list)
    measures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """Runs to carry out one after the other in one process.

    Attributes:
        plan: What to train.
        point: The values of the trial.
        seeds: The seeds, a run each. After a run that does not finish, the others are left out if there are `bars`.
        folder: Folder of the search, with the tasks, and where outcomes and states of runs are kept until its end.
        key: Key of the search, without which no kept state is taken.
        bars: See `bars`; None to prune nothing.
    """

    plan: RunPlan
    point: Point
    seeds: tuple[int, ...]
    folder: Path
    key: str
    bars: list[list[float]] | None = None


class _PrunedError(Exception):
    """The run is not worth going on with."""


def running_means(outcomes: Sequence[Outcome]) -> list[list[float]]:
    """Return for each run, after each of its tasks, the mean over this and the earlier runs of a trial of their courses.

    Where this run went further than an earlier one, that is as far as all of them went.
    """
    means = []
    for number in range(1, len(outcomes) + 1):
        courses = [outcome.course for outcome in outcomes[:number]]
        means.append([sum(values) / number for values in zip(*courses, strict=False)])
    return means


def bars(trials: Sequence[Sequence[Outcome]]) -> list[list[float]]:
    """Return what a trial must reach in each of its runs after each task: the median of finished trials.

    Optuna's own median pruner compares the best value that a trial has had so far. Average accuracy falls with every
    task, so that its best is that of the first task, and hardly any trial would be pruned.

    Args:
        trials: The runs of each trial that finished.

    Returns:
        For each seed the bars after each task; nothing if there are fewer than `ENOUGH` trials.
    """
    if len(trials) < ENOUGH:
        return []
    every = [running_means(outcomes) for outcomes in trials]
    return [[median(values) for values in zip(*runs, strict=True)] for runs in zip(*every, strict=True)]


def place_of(point: Point, seed: int) -> str:
    """Return the name of the files of a run."""
    return f"{hashlib.sha256(identity(point).encode()).hexdigest()[:16]}-{seed}"


def carry_out(work: Work) -> list[Outcome]:
    """Carry out runs, and keep the outcome of each in the folder of the search.

    A run whose outcome is kept already is not repeated, and one that was interrupted is resumed.

    Raises:
        UserError: if a file is damaged, or if another process is at work on the same run.
    """
    outcomes: list[Outcome] = []
    for seed in work.seeds:
        outcomes.append(_run(work, seed, outcomes))
        if work.bars is not None and outcomes[-1].ended != "finished":
            break
    return outcomes


def _run(work: Work, seed: int, before: Sequence[Outcome]) -> Outcome:
    """The outcome of one run, given those of the earlier seeds of the trial."""
    from pipeline.support.files import read_json, write_json

    place = work.folder / "runs" / place_of(work.point, seed)
    kept = place.with_suffix(".json")
    if kept.exists():
        held = read_json(kept, "delete it, and run the search again")
        if held.pop("key", None) == work.key:  # else it is of a search whose study has been deleted
            return Outcome(**held)

    from pipeline.analysis.metrics import all_metrics
    from pipeline.config.sections import Compute
    from pipeline.datasets.weights import FILE
    from pipeline.streams.reader import Tasks
    from pipeline.support.compute import prepare
    from pipeline.support.errors import DivergenceError
    from pipeline.support.scratch import Scratch
    from pipeline.training.loop import train

    course: list[float] = []
    tasks = Tasks.open(work.folder / "tasks", seed)
    number = len(before)
    bar = work.bars[number] if work.bars else []
    last = number == len(work.seeds) - 1

    def judge(recorder: Recorder) -> None:
        course[:] = recorder.record.course()
        learnt = len(course)
        # After the first task nothing can have been forgotten, and after the very last one there is nothing to save.
        if bar and learnt > 1 and not (last and learnt == len(tasks)):
            reached = running_means([*before, Outcome(seed, "finished", course)])[-1][-1]
            if reached < bar[learnt - 1]:
                raise _PrunedError

    device = prepare(Compute(device="cpu", threads=1))
    weights = work.folder / "tasks" / FILE if work.plan.pretrained else None
    name = " ".join(
        [f"tune {work.plan.method}", *(f"{key}={value}" for key, value in work.point.items()), f"seed {seed}"]
    )
    with Scratch(place, work.key, name) as scratch:
        try:
            record = train(work.plan, tasks, seed, device, weights=weights, scratch=scratch, evaluated=judge)
        except (DivergenceError, _PrunedError) as error:
            outcome = Outcome(seed, "pruned" if isinstance(error, _PrunedError) else "diverged", course)
        else:
            metrics = all_metrics(record.accuracy)
            measures = {key: round(metrics[key], 6) for key in MEASURES if key in metrics}
            outcome = Outcome(seed, "finished", course, measures)
        write_json(kept, {"key": work.key, **asdict(outcome)})
        scratch.clear()
    return outcome


def end_with_the_search() -> None:
    """Set up this process so that it ends at once when the one that started it does, however that ends.

    Otherwise the processes of a search that is killed would train on, and hold the locks on their runs. Ctrl-C, which a
    terminal sends to all of them, is left to the search, which then ends them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # By default tqdm has a lock between processes, which a process that is ended cannot remove.
    tqdm.set_lock(threading.RLock())
    starter = parent_process()
    if starter is None:
        return
    sentinel: Any = starter.sentinel

    def watch() -> None:
        connection.wait([sentinel])
        os._exit(ENDED)

    threading.Thread(target=watch, name="end with the search", daemon=True).start()
