"""All published rows together: the part of docs/reproductions.md that judges them at once, and says which have no run."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import pandas as pd

from pipeline.analysis.agreement import (
    EQUIVALENCE_LEVEL,
    MARGIN,
    Agreement,
    ChiSquared,
    Row,
    Standing,
    agreement,
    chi_squared,
    equivalence_interval,
    standing,
)
from pipeline.analysis.intervals import LEVEL, NEAR, Estimate
from pipeline.analysis.published import Comparison, compare, published_row, read_published
from pipeline.analysis.tables import tables
from pipeline.config import RunPlan
from pipeline.experiments.experiments import Experiment
from pipeline.experiments.records import as_run
from pipeline.experiments.report import Records, planned, published_rows
from pipeline.report.report import difference_shown
from pipeline.report.writing import Table, markdown_table

#: Place of the picture, as seen from docs/reproductions.md.
PICTURE = "images/published_rows.png"


@dataclass(frozen=True)
class Outcome:
    """What came out of an experiment.

    Attributes:
        name: Name of the experiment.
        experiment: The experiment.
        methods: The resolved plans of its methods.
        records: The records of its finished runs.
        runs: A row for each of them; None if there is none.
        compared: Method -> ours beside the published, for each method that has both.
    """

    name: str
    experiment: Experiment
    methods: Mapping[str, RunPlan]
    records: Records
    runs: pd.DataFrame | None
    compared: Mapping[str, Comparison]

    @property
    def absent(self) -> list[str]:
        """The methods without any run."""
        return [name for name in self.experiment.methods if self.runs is None or name not in set(self.runs["method"])]


def outcome(name: str, experiment: Experiment, records: Records, methods: Mapping[str, RunPlan]) -> Outcome:
    """Compare an experiment's records with its published rows."""
    if not records:
        return Outcome(name, experiment, methods, records, None, {})
    runs = tables([as_run(record) for record in records.values()])["runs"]
    found = compare(runs, methods, experiment.benchmark, published_rows(experiment))
    return Outcome(name, experiment, methods, records, runs, {comparison.method: comparison for comparison in found})


def counted(outcomes: Sequence[Outcome]) -> list[Row]:
    """Return the published rows with runs of ours, in the order of the experiments and of their methods.

    Experiments that have other settings than the published ones on purpose are left out.
    """
    return [
        Row(outcome.name, comparison, planned(outcome.experiment)[comparison.method])
        for outcome in outcomes
        if outcome.experiment.as_published
        for comparison in outcome.compared.values()
    ]


def fingerprint(rows: Sequence[Row]) -> str:
    """Return a hash of what the picture of these rows shows, by which it can be told whether a picture is of them."""
    shown = [
        f"{row.experiment} {row.comparison.method} {row.seeds} {row.comparison.ours.mean:.3f} "
        f"{difference_shown(row.comparison.difference)} {standing(row.comparison)}"
        for row in rows
    ]
    return hashlib.sha256("\n".join(shown).encode()).hexdigest()


def judged(outcomes: Sequence[Outcome]) -> list[str]:
    """Compose the paragraphs, the picture and the table of all rows together; nothing if no published row has a run."""
    rows = counted(outcomes)
    if not rows:
        return []
    apart = [found.name for found in outcomes if found.compared and not found.experiment.as_published]
    verbs = ("has", "is") if len(apart) == 1 else ("have", "are")
    left_out = (
        f" {' and '.join(apart)} {verbs[0]} other settings on purpose and {verbs[1]} not counted." if apart else ""
    )
    so_far = sum(row.comparison.ours.n < row.planned for row in rows)
    begun = f", {so_far} of them so far with fewer seeds than planned" if so_far else ""
    text = [
        "### All rows together",
        f"Of {len(read_published())} published rows {len(rows)} have runs here{begun}.{left_out}",
    ]
    if found := agreement(rows):
        text += [*_verdict(found), *_others(rows)]
    text += [
        f"![Ours and published, row by row, and their differences with intervals]({PICTURE})",
        f"Grey: differences of up to {NEAR:g} and {MARGIN:g} points.",
        f"Two one-sided tests at {50 * (1 - EQUIVALENCE_LEVEL):.0f} % each *show a row equal* where the "
        f"{100 * EQUIVALENCE_LEVEL:.0f} % interval of d lies within {MARGIN:g} points of 0, the most that the rule above "
        f"lets pass. Any other row is *different* where its {100 * LEVEL:.0f} % interval leaves 0 out, as one in "
        f"{1 / (1 - LEVEL):.0f} does by chance, and *not shown different* where it holds 0: too few seeds to say more. "
        f"{_counts(rows)}.",
        markdown_table(_standings(rows)),
    ]
    return text


def _verdict(found: Agreement) -> list[str]:
    """The two paragraphs on all rows at once: whether differences are larger than seeds make them, and their mean."""
    n, mean = found.rows, found.mean
    larger = "more than" if found.normal_p < 1 - LEVEL else "no more than"
    holds = mean.low is not None and mean.high is not None and mean.low <= 0 <= mean.high
    bounded = math.isfinite(found.squares_expected)
    expected = f"which makes {found.squares_expected:.1f} for the sum" if bounded else "and none where ν is 2 or less"
    return [
        f"**In average accuracy, ours differ from the published over all rows {larger} seeds do.** The sum of z² over the "
        f"{n} rows with two seeds or more is {found.normal:.1f}; chance alone gives chi-squared with {n} degrees of freedom "
        f"(p = {_p(found.normal_p)}). Here z is the normal quantile of the probability that Student's t, with Welch's "
        "degrees of freedom ν, gives to d / standard error. The plain squares of d / standard error add up to "
        f"{found.squares:.1f} (p = {_p(found.squares_p)}), but with so few seeds they are too large for chi-squared: each "
        f"has the mean ν / (ν - 2), not 1, {expected}.",
        f"**The mean of d is {difference_shown(mean)} points**: its {100 * LEVEL:.0f} % interval "
        f"{'holds 0' if holds else 'leaves 0 out'}. Runs of one seed share their first weights and the order of images, so "
        "their rows move together; the interval allows for it by the deviations of two rows in the seeds that both have, and "
        "takes rows whose single runs were not published to move together entirely. For the same reason p "
        "is a guide, not exact.",
    ]


def _others(rows: Sequence[Row]) -> list[str]:
    """The paragraph on forgetting and learning accuracy, which the rule and the verdict leave out."""
    measures: dict[str, list[Sides]] = {
        "Forgetting": [(row.experiment, row.comparison.forgetting, row.comparison.row.forgetting) for row in rows],
        "Learning accuracy": [
            (row.experiment, row.comparison.learning_accuracy, row.comparison.row.learning_accuracy) for row in rows
        ],
    }
    found = [text for name, sides in measures.items() if (text := _other(name, sides))]
    shared = (
        "Rows of one experiment share their images: where these are not the published ones all of them move together, and p "
        "is far too small."
    )
    return (
        [" ".join(["By the same sum, on what neither the rule nor the verdict looks at:", *found, shared])]
        if found
        else []
    )


#: An experiment, our mean of a measure and the published one.
Sides = tuple[str, Estimate | None, Estimate | None]


def _other(name: str, sides: Sequence[Sides]) -> str:
    """Whether a measure differs more than seeds do, and if so in which experiment most."""
    whole = chi_squared((ours, theirs) for _, ours, theirs in sides)
    if whole is None:
        return ""
    larger = whole.p < 1 - LEVEL
    text = f"{name} differs {'more than' if larger else 'no more than'} seeds do, {_sum(whole)}."
    if not larger or len(names := list(dict.fromkeys(experiment for experiment, _, _ in sides))) < 2:
        return text
    apart = {
        experiment: chi_squared((ours, theirs) for one, ours, theirs in sides if one == experiment)
        for experiment in names
    }
    beyond = ((one, part) for one, part in apart.items() if part)  # its sum beyond what chance makes
    most, of_most = max(beyond, key=lambda pair: pair[1].normal - pair[1].rows)
    rest = chi_squared((ours, theirs) for one, ours, theirs in sides if one != most)
    return f"{text} Most of it is {most}, {_sum(of_most)}" + (f"; without it {_sum(rest)}." if rest else ".")


def _sum(found: ChiSquared) -> str:
    """Such as "50.4 over 55 rows (p = 0.65, ours +0.2 points on average)"."""
    rows = "1 row" if found.rows == 1 else f"{found.rows} rows"
    return f"{found.normal:.1f} over {rows} (p = {_p(found.p)}, ours {found.mean:+.1f} points on average)"


def _p(value: float) -> str:
    return f"{value:.2f}" if value >= 0.01 else f"{value:.1g}"


def _counts(rows: Sequence[Row]) -> str:
    """How many rows stand where, such as "17 are shown equal, 10 not shown different, 0 different"."""
    found = [standing(row.comparison) for row in rows]
    words = [f"{found.count(name)} {'are ' if not number else ''}{name}" for number, name in enumerate(STANDINGS[:3])]
    alone = found.count("no interval")
    return ", ".join(words) + (f", and {alone} cannot be told: one seed, or no published deviation" if alone else "")


#: From the surest row to the least sure.
STANDINGS: tuple[Standing, ...] = get_args(Standing)


def _standings(rows: Sequence[Row]) -> Table:
    """Table of all rows, those that stand alike together."""
    cells = []
    for row in sorted(rows, key=lambda row: STANDINGS.index(standing(row.comparison))):
        found, interval = row.comparison, equivalence_interval(row.comparison)
        so_far = " so far" if found.ours.n < row.planned else ""
        shown = f"[{interval[0]:+.1f}, {interval[1]:+.1f}]" if interval else ""
        name = f"{found.method} ({found.row.row})"
        cells.append(
            [name, row.experiment, row.seeds, f"{found.difference.mean:+.1f}", shown, standing(found) + so_far]
        )
    return Table(["row", "experiment", "seeds", "d", f"{100 * EQUIVALENCE_LEVEL:.0f} % interval", "stands"], cells)


def without_runs(outcomes: Sequence[Outcome]) -> list[str]:
    """Compose the table of the rows without any run, and of what they lack; nothing if all have run."""
    cells, number = [], 0
    for found in outcomes:
        rows = published_rows(found.experiment)
        names = []
        for method in found.absent:
            row = published_row(rows, found.experiment.benchmark, found.methods[method])
            row = row if found.experiment.as_published else None  # another experiment has that row
            number += row is not None
            names.append(f"{method} ({row.row})" if row else method)
        if names:
            cells.append([found.name, str(len(names)), ", ".join(names), found.experiment.missing or "not told"])
    if not cells:
        return []
    return [
        "### Rows without a run",
        f"{number} of {len(read_published())} published rows have no run here, for want of what the last column says. "
        "Names in brackets are those of published.csv; the Stable SGD paper's tables are not in it.",
        markdown_table(Table(["experiment", "rows", "which", "missing"], cells)),
    ]
