"""Statistics over a handful of seeds: confidence intervals, differences, and the verdict on a published number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit  # the quantile behind scipy.stats.t, whose import costs a second

LEVEL = 0.95
#: Limits on the absolute difference of a reproduced result, in percentage points of average accuracy: whatever its
#: interval, and if its interval contains 0.
NEAR, NEAR_WITH_INTERVAL = 1.5, 3.0


@dataclass(frozen=True)
class Estimate:
    """A mean or a difference of means, with its confidence interval.

    Attributes:
        n: The number of values; from `welch_difference` that of its first mean.
        mean: The mean, or the difference.
        std: The standard deviation with divisor n - 1. None for a single value, and from `welch_difference`.
        low: The lower end of the interval at `LEVEL`, or None if there are too few values for one.
        high: The upper end.
    """

    n: int
    mean: float
    std: float | None = None
    low: float | None = None
    high: float | None = None


def quantile(freedom: float, level: float = LEVEL) -> float:
    """Return the quantile of Student's t distribution at the upper end of a two-sided interval at `level`."""
    return float(stdtrit(freedom, (1 + level) / 2))


def _with_interval(n: int, mean: float, std: float) -> Estimate:
    """The estimate with Student's t interval of n >= 2 values with this mean and standard deviation."""
    half = quantile(n - 1) * std / math.sqrt(n)
    return Estimate(n, mean, std, mean - half, mean + half)


def estimate(values: Sequence[float]) -> Estimate:
    """Estimate the mean of values with Student's t interval.

    Returns:
        The estimate; a single value has neither a standard deviation nor an interval.

    Raises:
        ValueError: if there are no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("no values")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(1, mean)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return _with_interval(n, mean, std)


def paired_difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate | None:
    """Estimate the mean of ours - theirs over the seeds that both have, with Student's t interval.

    Args:
        ours: Values by seed.
        theirs: Values by seed.

    Returns:
        The estimate, or None if they have no seed in common.
    """
    common = sorted(set(ours) & set(theirs))
    return estimate([ours[seed] - theirs[seed] for seed in common]) if common else None


def described(n: int, mean: float, population_std: float) -> Estimate:
    """Build the estimate of values of which only mean and standard deviation are known, with Student's t interval.

    Args:
        n: The number of values.
        mean: Their mean.
        population_std: Their standard deviation with divisor n.
    """
    if n < 2:
        return Estimate(n, mean)
    std = population_std * math.sqrt(n / (n - 1))
    return _with_interval(n, mean, std)


def welch(a: Estimate, b: Estimate) -> tuple[float, float] | None:
    """Compute the standard error of the difference of two means, and its degrees of freedom (Welch-Satterthwaite).

    With the shares s = std²/n of the two means:

        error² = s_a + s_b        freedom = (s_a + s_b)² / (s_a²/(n_a - 1) + s_b²/(n_b - 1))

    Returns:
        The two, or None if either mean is of a single value, or if neither has any spread.
    """
    if a.std is None or b.std is None:
        return None
    if max(a.std, b.std) <= 1e-12 * max(abs(a.mean), abs(b.mean), 1e-300):  # rounding errors of equal values
        return None
    share_a, share_b = a.std**2 / a.n, b.std**2 / b.n
    freedom = (share_a + share_b) ** 2 / (share_a**2 / (a.n - 1) + share_b**2 / (b.n - 1))
    return math.sqrt(share_a + share_b), freedom


def welch_difference(a: Estimate, b: Estimate) -> Estimate:
    """Estimate the difference a - b of two means with Welch's interval, which allows for unequal variances.

    Returns:
        The difference with the n of `a` and no standard deviation. It has no interval if either mean is of a single
        value, and an interval of length 0 if neither has any spread.
    """
    difference = a.mean - b.mean
    if a.std is None or b.std is None:
        return Estimate(a.n, difference)
    found = welch(a, b)
    if found is None:
        return Estimate(a.n, difference, None, difference, difference)
    error, freedom = found
    half = quantile(freedom) * error
    return Estimate(a.n, difference, None, difference - half, difference + half)


def verdict(difference: Estimate) -> str:
    """Judge a difference d between our average accuracy and the published one.

    The same rule applies to every row: the result is reproduced if |d| is at most 1.5 points, or if |d| is at most 3
    points and the 95 % interval of d (Welch's) contains 0.

    Args:
        difference: Ours minus the published value, in percentage points.

    Returns:
        "reproduced"; otherwise "higher" or "lower", as ours is.
    """
    d = difference.mean
    holds_zero = difference.low is not None and difference.high is not None and difference.low <= 0 <= difference.high
    if abs(d) <= NEAR or (holds_zero and abs(d) <= NEAR_WITH_INTERVAL):
        return "reproduced"
    return "higher" if d > 0 else "lower"
