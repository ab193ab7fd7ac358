"""What a handful of seeds can tell: intervals, paired differences, and a verdict on a published number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit  # the quantile behind scipy.stats.t, whose import costs a second

LEVEL = 0.95
#: Percentage points of average accuracy: near enough whatever the spread; near enough where the interval holds 0.
NEAR, NEAR_WITH_INTERVAL = 1.5, 3.0


@dataclass(frozen=True)
class Estimate:
    """A mean of n values. std: with divisor n - 1. low, high: its interval at LEVEL. None where n is too small to tell."""

    n: int
    mean: float
    std: float | None = None
    low: float | None = None
    high: float | None = None


def _quantile(freedom: float) -> float:
    """Of Student's t, at the upper end of the interval at LEVEL."""
    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, standard deviation and Student's t interval. One value has no spread. Raises ValueError for none."""
    n = len(values)
    if n == 0:
        raise ValueError("no values")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(1, mean)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = _quantile(n - 1) * std / math.sqrt(n)
    return Estimate(n, mean, std, mean - half, mean + half)


def paired_difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate | None:
    """Mean of ours - theirs over the seeds that both have, with its interval; None where they have none in common."""
    common = sorted(set(ours) & set(theirs))
    return estimate([ours[seed] - theirs[seed] for seed in common]) if common else None


def described(n: int, mean: float, population_std: float) -> Estimate:
    """The estimate of values of which only the mean and the standard deviation with divisor n are known."""
    if n < 2:
        return Estimate(n, mean)
    std = population_std * math.sqrt(n / (n - 1))
    half = _quantile(n - 1) * std / math.sqrt(n)
    return Estimate(n, mean, std, mean - half, mean + half)


def welch_difference(a: Estimate, b: Estimate) -> Estimate:
    """Difference of two means with Welch's interval (unequal variances); n: values of the first. No interval where either has
    one value."""
    difference = a.mean - b.mean
    if a.std is None or b.std is None:
        return Estimate(a.n, difference)
    share_a, share_b = a.std**2 / a.n, b.std**2 / b.n
    error = math.sqrt(share_a + share_b)
    if error == 0:
        return Estimate(a.n, difference, None, difference, difference)
    freedom = (share_a + share_b) ** 2 / (share_a**2 / (a.n - 1) + share_b**2 / (b.n - 1))
    half = _quantile(freedom) * error
    return Estimate(a.n, difference, None, difference - half, difference + half)


def verdict(difference: Estimate) -> str:
    """reproduced, higher or lower, of a difference in percentage points of average accuracy.

    The rule, the same for all rows: reproduced where |d| is at most 1.5, or where Welch's 95 % interval holds 0 and |d| is
    at most 3; higher or lower otherwise.
    """
    d = difference.mean
    holds_zero = difference.low is not None and difference.high is not None and difference.low <= 0 <= difference.high
    if abs(d) <= NEAR or (holds_zero and abs(d) <= NEAR_WITH_INTERVAL):
        return "reproduced"
    return "higher" if d > 0 else "lower"
