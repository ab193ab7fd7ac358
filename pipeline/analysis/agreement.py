"""Our results against all published rows at once: one verdict over them, and which rows are shown equal.

A row by itself can hardly fail: with three to five seeds its interval is wide. Over all rows small errors that have the
same sign, or more large ones than seeds explain, would show.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scipy.special import chdtrc, ndtri, stdtr

from pipeline.analysis.intervals import NEAR_WITH_INTERVAL, Estimate, quantile, welch
from pipeline.analysis.published import Comparison

#: A row is shown equal if its difference is shown to be smaller than this, in points of average accuracy. It is the
#: largest difference that the verdict's rule lets pass, and less than what the papers' claims rest on: TAG is 3.6 points
#: above the next method of its main comparison (ER, Split CIFAR-100).
MARGIN = NEAR_WITH_INTERVAL
#: Two one-sided tests at 5 % each accept where the two-sided interval at this level lies within the margin
#: (Schuirmann 1987).
EQUIVALENCE_LEVEL = 0.90

Standing = Literal["shown equal", "not shown different", "different", "no interval"]


@dataclass(frozen=True)
class Row:
    """A published row that has runs of ours.

    Attributes:
        experiment: The experiment that the runs are of.
        comparison: Ours beside the published.
        planned: The number of seeds that are planned; fewer may have run.
    """

    experiment: str
    comparison: Comparison
    planned: int

    @property
    def seeds(self) -> str:
        """Number of our seeds, such as "5", or "2 of 3" where some have not run."""
        return str(n) if (n := self.comparison.ours.n) >= self.planned else f"{n} of {self.planned}"


@dataclass(frozen=True)
class ChiSquared:
    """Differences of several rows from the published ones, judged at once.

    Attributes:
        rows: The number n of rows with a standard error of their difference, which the rest is about.
        normal: The sum over them of z², see `agreement`.
        p: Probability that chi-squared with n degrees of freedom is at least `normal`.
        mean: The mean difference, ours minus the published, in percent or points.
    """

    rows: int
    normal: float
    p: float
    mean: float


@dataclass(frozen=True)
class Agreement:
    """How all rows together agree with the published ones.

    Attributes:
        rows: The number n of rows with a standard error of their difference, which the rest is about.
        squares: Sum of the squares of t = d / standard error.
        squares_expected: What `squares` is on average if every true difference is 0; infinite if a row has two degrees of
            freedom or fewer.
        squares_p: Probability that chi-squared with n degrees of freedom is at least `squares`. Too small with few seeds.
        normal: The same sum after each t was replaced by the normal quantile of the same probability.
        normal_p: Probability that chi-squared with n degrees of freedom is at least `normal`.
        mean: The mean of d in points, with its 95 % interval; see `mean_difference`.
    """

    rows: int
    squares: float
    squares_expected: float
    squares_p: float
    normal: float
    normal_p: float
    mean: Estimate


def agreement(rows: Sequence[Row]) -> Agreement | None:
    """Judge all rows at once: are the differences no larger than seeds make them?

    If no true difference is other than 0, t = d / error of a row follows Student's distribution with Welch's degrees of
    freedom v, whose square has the mean v / (v - 2), not 1. So the sum of t² is too large for chi-squared. With
    z = Φ⁻¹(F_v(t)), where F_v is the distribution function of Student's t and Φ that of the normal distribution, the sum
    of z² over n rows is chi-squared with n degrees of freedom, as far as rows are independent.

    Returns:
        The agreement over the rows that have two values or more on both sides, and any spread; None if there is no such
        row.
    """
    judged = {number: found for number, row in enumerate(rows) if (found := welch(*_sides(row.comparison)))}
    if not judged:
        return None
    n = len(judged)
    ts = [(rows[number].comparison.difference.mean / error, freedom) for number, (error, freedom) in judged.items()]
    squares = math.fsum(t**2 for t, _ in ts)
    normal = math.fsum(as_normal(t, freedom) ** 2 for t, freedom in ts)
    return Agreement(
        n,
        squares,
        math.fsum(freedom / (freedom - 2) if freedom > 2 else math.inf for _, freedom in ts),
        float(chdtrc(n, squares)),
        normal,
        float(chdtrc(n, normal)),
        mean_difference([rows[number] for number in judged]),
    )


def chi_squared(sides: Iterable[tuple[Estimate | None, Estimate | None]]) -> ChiSquared | None:
    """Judge the differences of several pairs of means at once, as `agreement` does that of the average accuracy.

    Args:
        sides: Our mean and the published one of each row; None where there is none.

    Returns:
        The verdict over the pairs that have two values or more on both sides, and any spread; None if there is none.
    """
    judged = [(a.mean - b.mean, *found) for a, b in sides if a and b and (found := welch(a, b))]
    if not judged:
        return None
    normal = math.fsum(as_normal(d / error, freedom) ** 2 for d, error, freedom in judged)
    mean = math.fsum(d for d, _, _ in judged) / len(judged)
    return ChiSquared(len(judged), normal, float(chdtrc(len(judged), normal)), mean)


def as_normal(t: float, freedom: float) -> float:
    """Return the normal quantile that has the probability of t in Student's distribution: Φ⁻¹(F(t))."""
    return math.copysign(float(ndtri(stdtr(freedom, -abs(t)))), t)  # in the lower tail, where no digits are lost


def mean_difference(rows: Sequence[Row]) -> Estimate:
    """Estimate the mean of d over rows, with an interval that allows for runs of one seed moving together.

    Runs with the same seed share their first weights, the order of their images and their memory's choices, here as in
    the published code, so rows are not independent. Therefore the variance of their sum counts, for each two rows of an
    experiment, how they deviate together in the seeds that both have:

        var(sum of means) = sum_ij sum_s (x_is - mean_i) (x_js - mean_j) / (n_i n_j - n_i - n_j + c_ij)

    for each experiment and either side, over the c_ij seeds that rows i and j share, with as many degrees of freedom as its
    smallest row has. Where single runs were not published, their deviations are taken to have moved together entirely, which
    makes the variance (sum_i std_i / sqrt(n_i))² and no smaller. The parts are added as Welch adds two. For one row this is
    Welch's interval.

    Args:
        rows: One or more rows with two values or more on both sides.

    Returns:
        The mean of d and its interval at `LEVEL`; n is the number of rows.
    """
    parts = []
    for experiment in dict.fromkeys(row.experiment for row in rows):
        of_experiment = [row.comparison for row in rows if row.experiment == experiment]
        parts.append(_variance_of_sum([found.by_seed for found in of_experiment]))
        told = [found.row.by_run for found in of_experiment if found.row.by_run]
        parts += [_variance_of_sum(told)] if told else []
        if untold := [found.row.accuracy for found in of_experiment if not found.row.by_run]:
            error = math.fsum((accuracy.std or 0.0) / math.sqrt(accuracy.n) for accuracy in untold)
            parts.append((error**2, min(accuracy.n for accuracy in untold) - 1))
    mean = math.fsum(row.comparison.difference.mean for row in rows) / len(rows)
    variance = math.fsum(part for part, _ in parts)
    if variance == 0:
        return Estimate(len(rows), mean, None, mean, mean)
    freedom = variance**2 / math.fsum(part**2 / freedom for part, freedom in parts)
    half = quantile(freedom) * math.sqrt(variance) / len(rows)
    return Estimate(len(rows), mean, None, mean - half, mean + half)


def _variance_of_sum(rows: Sequence[Mapping[Any, float]]) -> tuple[float, int]:
    """Variance of the sum of the rows' means, whose values of one seed move together, and its degrees of freedom."""
    deviations = []
    for row in rows:
        mean = math.fsum(row.values()) / len(row)
        deviations.append({seed: value - mean for seed, value in row.items()})
    total = 0.0
    for number, one in enumerate(deviations):
        for other in deviations[: number + 1]:
            if common := one.keys() & other.keys():
                # Of n_i and n_j values with c common seeds, the expected sum of products is this much less than c times the
                # covariance, because both means are taken of the same values; for one row it is n (n - 1).
                factor = len(one) * len(other) - len(one) - len(other) + len(common)
                product = math.fsum(one[seed] * other[seed] for seed in common) / factor
                total += product if one is other else 2 * product
    return max(total, 0.0), min(map(len, rows)) - 1


def equivalence_interval(comparison: Comparison) -> tuple[float, float] | None:
    """Return Welch's interval of d at `EQUIVALENCE_LEVEL`, or None if there is none."""
    d = comparison.difference
    if d.low is None or d.high is None:
        return None
    found = welch(*_sides(comparison))
    half = quantile(found[1], EQUIVALENCE_LEVEL) * found[0] if found else 0.0
    return d.mean - half, d.mean + half


def standing(comparison: Comparison) -> Standing:
    """Say where a row stands after two one-sided tests of equivalence.

    Returns:
        "shown equal" if the interval at `EQUIVALENCE_LEVEL` lies within `MARGIN` of 0; otherwise "different" if the
        interval at `LEVEL` leaves 0 out, and "not shown different" if it holds it: too few seeds to say. "no interval" if
        there is none: one seed, or no published deviation.
    """
    interval, d = equivalence_interval(comparison), comparison.difference
    if interval is None or d.low is None or d.high is None:
        return "no interval"
    if interval[0] > -MARGIN and interval[1] < MARGIN:
        return "shown equal"
    return "not shown different" if d.low <= 0 <= d.high else "different"


def _sides(comparison: Comparison) -> tuple[Estimate, Estimate]:
    """Our mean and the published one."""
    return comparison.ours, comparison.row.accuracy
