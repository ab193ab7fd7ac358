from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.analysis.intervals import (
    Estimate,
    described,
    estimate,
    paired_difference,
    verdict,
    welch,
    welch_difference,
)

VALUES = [63.2, 58.9, 66.0, 64.4]


def test_an_interval_by_hand() -> None:
    found = estimate([1.0, 2.0, 3.0])
    assert (found.n, found.mean, found.std) == (3, 2.0, 1.0)
    half = 4.302653 / 3**0.5  # the 97.5 % point of Student's t with 2 degrees of freedom
    assert [found.low, found.high] == pytest.approx([2 - half, 2 + half], rel=1e-6)


def test_an_interval_is_scipys() -> None:
    found = estimate(VALUES)
    low, high = stats.ttest_1samp(VALUES, 0.0).confidence_interval(0.95)
    assert [found.low, found.high] == pytest.approx([low, high])
    assert found.std == pytest.approx(np.std(VALUES, ddof=1))


def test_one_seed_has_no_interval() -> None:
    assert estimate([0.7]) == Estimate(1, 0.7)
    with pytest.raises(ValueError, match="no values"):
        estimate([])


def test_a_paired_difference_takes_the_seeds_that_both_have() -> None:
    ours, theirs = {1: 5.0, 2: 7.0, 3: 9.0, 8: 100.0}, {3: 6.0, 2: 5.0, 1: 4.0, 9: -100.0}
    found = paired_difference(ours, theirs)
    assert found is not None
    assert (found.n, found.mean, found.std) == (3, 2.0, 1.0)
    low, high = stats.ttest_rel([5.0, 7.0, 9.0], [4.0, 5.0, 6.0]).confidence_interval(0.95)
    assert [found.low, found.high] == pytest.approx([low, high])
    assert paired_difference({1: 1.0}, {2: 1.0}) is None
    assert paired_difference({1: 3.0, 2: 0.0}, {1: 1.0}) == Estimate(1, 2.0)


def test_a_welch_difference_is_scipys() -> None:
    theirs = [51.0, 53.5, 56.8, 50.8, 46.9]
    found = welch_difference(estimate(VALUES), estimate(theirs))
    low, high = stats.ttest_ind(VALUES, theirs, equal_var=False).confidence_interval(0.95)
    assert found.mean == pytest.approx(np.mean(VALUES) - np.mean(theirs))
    assert [found.low, found.high] == pytest.approx([low, high])
    assert welch_difference(estimate([60.0]), estimate(theirs)).low is None
    assert welch_difference(estimate([2.0, 2.0]), estimate([1.0, 1.0])) == Estimate(2, 1.0, None, 1.0, 1.0)


def test_welchs_error_and_freedom_are_scipys() -> None:
    theirs = [51.0, 53.5, 56.8, 50.8, 46.9]
    found = welch(estimate(VALUES), estimate(theirs))
    wanted = stats.ttest_ind(VALUES, theirs, equal_var=False)
    assert found == pytest.approx(((np.mean(VALUES) - np.mean(theirs)) / wanted.statistic, wanted.df))
    assert welch(estimate([60.0]), estimate(theirs)) is None
    assert welch(estimate([2.0, 2.0]), estimate([1.0, 1.0])) is None


def test_what_is_described_by_its_mean_and_population_deviation() -> None:
    found, wanted = described(4, float(np.mean(VALUES)), float(np.std(VALUES))), estimate(VALUES)
    assert found.std == pytest.approx(wanted.std)
    assert [found.low, found.high] == pytest.approx([wanted.low, wanted.high])
    assert described(1, 3.0, 0.0) == Estimate(1, 3.0)


@pytest.mark.parametrize(
    ("mean", "low", "high", "told"),
    [
        (1.5, 0.5, 2.5, "reproduced"),
        (-1.5, None, None, "reproduced"),
        (2.9, -0.1, 5.9, "reproduced"),
        (2.9, 0.1, 5.7, "higher"),
        (-2.9, -5.7, -0.1, "lower"),
        (3.1, -9.0, 15.0, "higher"),
        (-3.1, -9.0, 3.0, "lower"),
        (2.0, None, None, "higher"),
    ],
)
def test_the_rule_of_the_verdict(mean: float, low: float | None, high: float | None, told: str) -> None:
    assert verdict(Estimate(3, mean, None, low, high)) == told
