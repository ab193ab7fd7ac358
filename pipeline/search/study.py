"""What a search has tried, in an Optuna study, and what it tries next. The one file that knows Optuna.

A search may be killed at any moment, and ends as if it had not been. So the study holds finished trials only, each
written in one transaction, and what is tried next depends on nothing but the seed, the number of the trial and the
trials of earlier batches: it is proposed anew, and comes out the same, when the search goes on. A sampler of Optuna
would draw on from where its random state is, which a kill loses; here each trial has a sampler of its own.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from pipeline.search.space import Point, Range, Space, Values
from pipeline.search.trials import Outcome, running_means
from pipeline.support.errors import UserError
from pipeline.support.files import whole_file

NAME = "search"


class Study:
    """The finished trials of a search, in a file of SQLite.

    Args:
        study: Optuna's study.
        space: The space that is searched.
    """

    def __init__(self, study: optuna.Study, space: Space) -> None:
        self._study, self._distributions = study, {key: _distribution(axis) for key, axis in space.items()}
        self._trials: list[FrozenTrial] = study.get_trials(deepcopy=False)

    def __len__(self) -> int:
        return len(self._trials)

    def trials(self) -> list[tuple[Point, list[Outcome]]]:
        """Return the values of each trial, and what came out of its runs."""
        return [(self._in_order(trial.params), _outcomes(trial)) for trial in self._trials]

    def is_of(self, images: str) -> bool:
        """Whether the trials had these images, by the checksum of their tasks. The first images asked about are kept."""
        held: str | None = self._study.user_attrs.get("images")
        if held is None:
            self._study.set_user_attr("images", images)
        return held in (None, images)

    def finished(self, before: int) -> list[list[Outcome]]:
        """Return the runs of the first `before` trials, of those alone that finished."""
        return [_outcomes(trial) for trial in self._trials[:before] if trial.state == TrialState.COMPLETE]

    def propose(self, sampler: str, seed: int, number: int, before: int) -> Point:
        """Return the values that a trial is to try.

        Args:
            sampler: tpe or random.
            seed: The seed of the search.
            number: The number of the trial, from 0.
            before: How many trials the sampler may look at.
        """
        own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        choice: BaseSampler = TPESampler(seed=own) if sampler == "tpe" else RandomSampler(seed=own)
        aside = optuna.create_study(direction="maximize", sampler=choice)  # in memory: a proposal leaves no trace
        aside.add_trials(self._trials[:before])
        return self._in_order(aside.ask(self._distributions).params)

    def _in_order(self, values: Mapping[str, Any]) -> Point:
        """The values of a trial in the order of the space."""
        return {key: values[key] for key in self._distributions}

    def add(self, point: Point, outcomes: Sequence[Outcome]) -> None:
        """Add the next trial, which has ended. One that did not finish counts as pruned, as far as it got."""
        courses = running_means(outcomes)
        tasks = max(map(len, courses), default=0)
        steps = {run * tasks + task: value for run, course in enumerate(courses) for task, value in enumerate(course)}
        whole = all(outcome.ended == "finished" for outcome in outcomes)
        self._study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if whole else TrialState.PRUNED,
                value=fmean(outcome.measures["average_accuracy"] for outcome in outcomes) if whole else None,
                params=point,
                distributions=self._distributions,
                intermediate_values=steps,
                user_attrs={"runs": [asdict(outcome) for outcome in outcomes]},
            )
        )
        self._trials = self._study.get_trials(deepcopy=False)


@contextmanager
def opened(path: Path, space: Space, key: Mapping[str, Any]) -> Iterator[Study]:
    """Open the study of a search, or create it.

    Args:
        path: Its file.
        space: The space that is searched.
        key: Everything that the trials depend on, by the name that a message gives it.

    Raises:
        UserError: if the file holds another search, or cannot be read.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not path.exists():
        # Whole or not at all: a kill while the tables are made must leave no half of a database.
        with whole_file(path) as partial, _storage(partial) as storage:
            made = optuna.create_study(study_name=NAME, storage=storage, direction="maximize")
            made.set_user_attr("key", json.dumps(key))
    with _storage(path) as storage:
        try:
            study = optuna.load_study(study_name=NAME, storage=storage, sampler=RandomSampler(seed=0))
            held = json.loads(study.user_attrs["key"])
        except (KeyError, ValueError):
            raise UserError(f"{path}: is not the study of a search; delete it") from None
        if differing := [name for name in key if held.get(name) != key[name]]:
            raise UserError(
                f"{path}: holds another search (its {', '.join(differing)} differ); "
                f"name this one with --record NAME, or delete {path.parent}"
            )
        yield Study(study, space)


@contextmanager
def _storage(path: Path) -> Iterator[optuna.storages.RDBStorage]:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        # Looked at first, because Optuna leaves its connection open where this fails.
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA schema_version")
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    except (sqlite3.Error, SQLAlchemyError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        damaged = any(words in reason for words in ("not a database", "malformed"))
        fix = f"delete {path.parent}" if damaged else "fix that and run it again: what is finished is kept"
        raise UserError(f"{path}: cannot be read ({reason}); {fix}") from None
    try:
        yield storage
    except optuna.exceptions.StorageInternalError as error:  # such as a full disk
        raise UserError(f"{path}: cannot be written ({error.__cause__}); free some space, and run it again") from None
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _outcomes(trial: FrozenTrial) -> list[Outcome]:
    return [Outcome(**values) for values in trial.user_attrs["runs"]]


def _distribution(axis: Values | Range) -> BaseDistribution:
    if isinstance(axis, Values):
        return CategoricalDistribution(axis.values)
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)
