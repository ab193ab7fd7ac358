"""The records of searches, results/tuning/<benchmark>/<name>.csv: every run, the best values first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from pipeline.search.space import Point, identity, word
from pipeline.search.trials import MEASURES, Outcome
from pipeline.support.errors import UserError

#: The column of a search that pruned: how each run ended.
ENDED = "ended"


def tabulate(trials: Iterable[tuple[Point, Sequence[Outcome]]], pruned: bool) -> pd.DataFrame:
    """Tabulate the runs of a search.

    Args:
        trials: The values of each trial and what came out of its runs, at least one, all of the same settings.
        pruned: Whether to say how each run ended, as `ended`.

    Returns:
        A row for each run: the values of its trial, the seed and the `MEASURES`. The values with the best mean average
        accuracy come first. A run that did not finish has no metrics, and its values come last.
    """
    rows: dict[tuple[str, int], dict[str, object]] = {}  # of values that were tried twice, one
    for point, outcomes in trials:
        for outcome in outcomes:
            row = {
                **{key: word(value) for key, value in point.items()},
                "seed": outcome.seed,
                **outcome.measures,
                ENDED: outcome.ended,
            }
            rows[identity(point), outcome.seed] = row
        keys = list(point)
    columns = [*keys, "seed", *MEASURES, *([ENDED] if pruned else [])]  # all of them, even if every run diverged
    table = pd.DataFrame(list(rows.values()), columns=columns)
    score = table.groupby(keys)["average_accuracy"].transform(lambda values: values.mean(skipna=False))
    order = table.assign(score=score).sort_values(
        ["score", *keys, "seed"],
        ascending=[False, *[True] * len(keys), True],
        key=lambda column: column.map(str) if column.dtype == object else column,  # numbers beside a null
    )
    return order.drop(columns="score").reset_index(drop=True)


def read_record(path: Path) -> pd.DataFrame:
    """Read the record of a search.

    Returns:
        Its runs, with the settings as text, as they are written.

    Raises:
        UserError: if the file is not the record of a search.
    """
    try:
        held = pd.read_csv(path, index_col=False, dtype=str, keep_default_na=False)
        measures = held[list(MEASURES)].apply(pd.to_numeric)
        held["seed"].astype(int)
    except (ValueError, KeyError, OSError):
        raise UserError(f"{path}: is not the record of a search; restore it from Git, or move it away") from None
    return held.assign(**{name: measures[name] for name in MEASURES})


def settings_in(record: pd.DataFrame) -> list[str]:
    """Return the settings that the columns of a record hold."""
    return [str(name) for name in record if name not in (*MEASURES, "seed", ENDED)]


def refuse_another_search(path: Path, keys: Iterable[str], points: Iterable[Point], seeds: Sequence[int]) -> None:
    """Refuse to overwrite the record of another search.

    Args:
        path: Where this search will be recorded.
        keys: The settings of this search.
        points: The points that it holds or will hold.
        seeds: Its seeds.

    Raises:
        UserError: if the file holds anything but runs that this search will repeat.
    """
    if not path.exists():
        return
    settings = sorted(keys)
    try:
        held = read_record(path)
        found = {(*(_plain(row[key]) for key in settings), int(row["seed"])) for row in held.to_dict("records")}
        only = sorted(settings_in(held)) == settings
    except (UserError, KeyError):
        found, only = set(), False
    ours = {(*(_plain(point[key]) for key in settings), seed) for point in points for seed in seeds}
    if not only or not found <= ours:
        raise UserError(f"{path}: holds another search, which would be lost; name this one with --record NAME")


def _plain(value: object) -> str:
    """Text of a value to compare by: the same for a number whether it is written as 1 or as 1.0."""
    value = word(value)
    try:
        return repr(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(value)
