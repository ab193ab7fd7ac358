from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from pipeline.analysis.agreement import (
    MARGIN,
    Row,
    Standing,
    agreement,
    as_normal,
    chi_squared,
    equivalence_interval,
    mean_difference,
    standing,
)
from pipeline.analysis.intervals import Estimate, estimate, verdict, welch_difference
from pipeline.analysis.published import Comparison, Published


def row(
    ours: Sequence[float] | np.ndarray,
    published: Sequence[float] | np.ndarray,
    told: bool = True,
    method: str = "tag",
    experiment: str = "one",
    planned: int = 0,
) -> Row:
    """A made-up row; `told` says whether the published runs are known, or only their mean and deviation."""
    values, runs = [float(value) for value in ours], [float(value) for value in published]
    mean, theirs = estimate(values), estimate(runs)
    difference = welch_difference(mean, theirs)
    beside = Published(method.upper(), theirs, None, None, (), dict(enumerate(runs, start=1)) if told else {})
    by_seed = dict(enumerate(values, start=1))
    return Row(experiment, Comparison(method, beside, mean, difference, verdict(difference), by_seed), planned)


#: Both sides with the mean square 4 of three values: an error of √(8/3) with 4 degrees of freedom.
SPREAD = np.array([-2.0, 0.0, 2.0])
ERROR = math.sqrt(8 / 3)


@pytest.mark.parametrize("freedom", [1.0, 2.5, 4.0, 30.0])
@pytest.mark.parametrize("t", [0.0, 0.4, -1.7, 3.0, -40.0, 40.0])
def test_a_t_becomes_the_normal_quantile_of_its_probability(t: float, freedom: float) -> None:
    wanted = -math.copysign(stats.norm.isf(stats.t.sf(abs(t), freedom)), -t)
    assert as_normal(t, freedom) == pytest.approx(wanted, rel=1e-9)


def test_the_verdict_over_all_rows_by_hand() -> None:
    rows = [row(60 + 2 * ERROR + SPREAD, 60 + SPREAD), row(50 - ERROR + SPREAD, 50 + SPREAD, experiment="two")]
    found = agreement(rows)
    assert found is not None
    assert found.rows == 2
    assert found.squares == pytest.approx(2**2 + 1**2)
    assert found.squares_expected == pytest.approx(2 + 2)  # 4 / (4 - 2) of each
    assert found.squares_p == pytest.approx(math.exp(-5 / 2))  # chi-squared with 2 degrees of freedom
    # 94.194 % and 18.695 % of Student's t with 4 degrees of freedom lie below 2 and -1: normal quantiles 1.5714, -0.8892.
    assert found.normal == pytest.approx(1.5714**2 + 0.8892**2, abs=1e-3)
    assert found.normal_p == pytest.approx(math.exp(-found.normal / 2))
    assert found.mean.mean == pytest.approx((2 - 1) * ERROR / 2)


def test_two_degrees_of_freedom_have_no_mean_square() -> None:
    found = agreement([row(60 + SPREAD[:2], [50.0, 50.0, 50.0])])
    assert found is not None
    assert found.squares_expected == math.inf


def test_rows_with_one_seed_or_without_any_spread_are_not_judged() -> None:
    alone, same = row([61.0], 60 + SPREAD), row([61.0, 61.0], [60.0, 60.0])
    assert agreement([]) is None
    assert agreement([alone, same]) is None
    both = row(60 + SPREAD, 60 + SPREAD)
    assert agreement([alone, both, same]) == agreement([both])


def test_only_the_statistic_that_allows_for_few_seeds_keeps_its_level() -> None:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(200):
        spreads = generator.uniform(0.5, 3, size=(12, 1))
        ours, published = (60 + spreads * generator.normal(size=(12, n)) for n in (3, 5))
        found.append(agreement([row(*sides) for sides in zip(ours, published, strict=True)]))
    rejected = np.array([(both.normal_p < 0.05, both.squares_p < 0.05) for both in found if both]).mean(axis=0)
    assert rejected[0] == pytest.approx(0.05, abs=0.04)
    assert rejected[1] > 0.3


def test_the_interval_of_the_mean_of_one_row_is_welchs() -> None:
    ours, published = [63.2, 58.9, 66.0, 64.4], [51.0, 53.5, 56.8, 50.8, 46.9]
    wanted = welch_difference(estimate(ours), estimate(published))
    for told in (True, False):
        found = mean_difference([row(ours, published, told)])
        assert (found.n, found.mean) == (1, wanted.mean)
        assert [found.low, found.high] == pytest.approx([wanted.low, wanted.high])


def test_rows_whose_seeds_move_together_say_no_more_than_one_of_them() -> None:
    one = row(61 + SPREAD, 60 + SPREAD)
    alone, twice = mean_difference([one]), mean_difference([one, one])
    assert (twice.n, twice.mean, twice.low, twice.high) == (2, *(pytest.approx(x) for x in (1, alone.low, alone.high)))


def test_rows_whose_seeds_move_apart_have_a_mean_that_is_sure() -> None:
    found = mean_difference([row(61 + SPREAD, 60 + SPREAD), row(61 - SPREAD, 60 - SPREAD)])
    assert found == Estimate(2, 1.0, None, 1.0, 1.0)


def test_rows_of_two_experiments_count_as_independent() -> None:
    found = mean_difference([row(61 + SPREAD, 60 + SPREAD, experiment=name) for name in ("one", "two")])
    assert found.high is not None
    # Four parts of variance 4/3, of 2 degrees of freedom each, add up to 8 degrees; the sum is of two rows.
    assert found.high == pytest.approx(1 + stats.t.ppf(0.975, 8) * math.sqrt(16 / 3) / 2)


def test_rows_without_single_runs_may_all_have_moved_together() -> None:
    told, untold = (
        mean_difference([row(61 + SPREAD, 60 + SPREAD, known, experiment="one")] * 2) for known in (True, False)
    )
    assert untold == told  # the two rows are the same, and so move together entirely
    apart = [
        row(61 + SPREAD, 60 + SPREAD, True),
        row(61 - SPREAD, 60 - SPREAD, False),
        row(61 - SPREAD, 60 + SPREAD, False),
    ]
    # Ours: sums of -2, 0 and 2, over the root of 3 x 2. Published: known -2, 0, 2 likewise; unknown 2 x 2 / root 3.
    variance = 8 / 6 + 8 / 6 + 16 / 3
    found = mean_difference(apart)
    freedom = variance**2 / sum(part**2 / 2 for part in (8 / 6, 8 / 6, 16 / 3))
    assert found.high == pytest.approx(1 + stats.t.ppf(0.975, freedom) * math.sqrt(variance) / 3)


def test_any_measure_is_judged_as_the_average_accuracy_is() -> None:
    rows = [row(60 + 2 * ERROR + SPREAD, 60 + SPREAD), row(50 - ERROR + SPREAD, 50 + SPREAD), row([61.0], 60 + SPREAD)]
    whole, found = agreement(rows), chi_squared([(one.comparison.ours, one.comparison.row.accuracy) for one in rows])
    assert whole
    assert found
    assert (found.rows, found.normal, found.p) == (2, whole.normal, whole.normal_p)
    assert found.mean == pytest.approx(ERROR / 2)
    assert chi_squared([(None, estimate([*SPREAD])), (estimate([1.0]), estimate([*SPREAD]))]) is None


@pytest.mark.parametrize("shift", [0.0, 1.0, -1.9, 2.5])
@pytest.mark.parametrize("scale", [0.1, 0.5, 1.5])
def test_shown_equal_is_what_two_one_sided_tests_say(shift: float, scale: float) -> None:
    generator = np.random.default_rng(3)
    ours, published = 60 + shift + scale * generator.normal(size=3), 60 + scale * generator.normal(size=5)
    below = stats.ttest_ind(ours - MARGIN, published, equal_var=False, alternative="less").pvalue
    above = stats.ttest_ind(ours + MARGIN, published, equal_var=False, alternative="greater").pvalue
    found = row(ours, published).comparison
    assert (standing(found) == "shown equal") == (max(below, above) < 0.05)
    low, high = stats.ttest_ind(ours, published, equal_var=False).confidence_interval(0.90)
    assert equivalence_interval(found) == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("ours", "told"),
    [
        (60 + 0.1 * SPREAD, "shown equal"),
        (62.5 + 0.01 * SPREAD, "shown equal"),  # and yet not 0: within the margin all the same
        (60 + SPREAD, "not shown different"),
        (63.5 + 0.1 * SPREAD, "different"),
        (56.5 + 0.1 * SPREAD, "different"),
        ([60.0], "no interval"),
    ],
)
def test_where_a_row_stands(ours: Sequence[float] | np.ndarray, told: Standing) -> None:
    assert standing(row(ours, 60 + 0.1 * SPREAD).comparison) == told


def test_without_any_spread_the_difference_itself_is_compared() -> None:
    assert standing(row([62.0, 62.0], [60.0, 60.0]).comparison) == "shown equal"
    assert standing(row([64.0, 64.0], [60.0, 60.0]).comparison) == "different"


def test_seeds_say_what_is_still_to_run() -> None:
    assert row([60.0, 61.0], [60.0], planned=3).seeds == "2 of 3"
    assert row([60.0, 61.0], [60.0], planned=2).seeds == "2"
