from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.analysis.continual import (
    Course,
    average_anytime_accuracy,
    average_minimum_accuracy,
    continual_metrics,
    minimum_accuracies,
    stability_gap,
    worst_case_accuracy,
)

#: Three tasks. Task 1 falls to 0.2 within task 2 and comes back to 0.6; within task 3 it falls on and stays there.
COURSE = [
    [[0.5], [0.8]],
    [[0.2, 0.4], [0.6, 0.7]],
    [[0.5, 0.1, 0.3], [0.4, 0.3, 0.5], [0.3, 0.5, 0.9]],
]


def test_the_minima_are_taken_after_a_task_was_learnt() -> None:
    """Not over its own evaluations, in which it is still being learnt."""
    assert minimum_accuracies(COURSE).tolist() == [0.2, 0.1]
    assert average_minimum_accuracy(COURSE) == pytest.approx(0.15)


def test_the_worst_case_counts_the_last_task_as_it_is() -> None:
    assert worst_case_accuracy(COURSE) == pytest.approx((0.9 + 0.2 + 0.1) / 3)
    assert worst_case_accuracy(COURSE[:2]) == pytest.approx((0.7 + 0.2) / 2)
    assert worst_case_accuracy(COURSE[:1]) == 0.8


def test_the_stability_gap_is_what_comes_back() -> None:
    within_task_2 = 0.6 - 0.2
    within_task_3 = (0.3 - 0.3, 0.5 - 0.1)
    assert stability_gap(COURSE) == pytest.approx((within_task_2 + sum(within_task_3)) / 3)
    assert stability_gap([[[0.9]], [[0.7, 0.2], [0.5, 0.4], [0.1, 0.9]]]) == 0  # forgetting that stays
    assert stability_gap([[[0.1]], [[0.7, 0.2], [0.5, 0.4]]]) == 0  # a gain that passes


def test_the_anytime_accuracy_weighs_every_evaluation_alike() -> None:
    averages = [0.5, 0.8, 0.3, 0.65, 0.3, 0.4, 17 / 30]
    assert average_anytime_accuracy(COURSE) == pytest.approx(np.mean(averages))


def test_a_single_task_has_the_metrics_that_need_one() -> None:
    assert continual_metrics(COURSE[:1]) == {"average_anytime_accuracy": 0.65, "worst_case_accuracy": 0.8}
    for metric in (minimum_accuracies, average_minimum_accuracy, stability_gap):
        with pytest.raises(ValueError, match="needs at least 2 tasks, has 1"):
            metric(COURSE[:1])


@pytest.mark.parametrize("course", [[], [[]], [[[0.5, 0.5]]], [[[0.5]], [[0.5]]]])
def test_a_course_of_another_shape_is_refused(course: Course) -> None:
    with pytest.raises(ValueError, match=r"needs at least 1 tasks|the evaluations of task \d must be"):
        average_anytime_accuracy(course)
    with pytest.raises(ValueError, match=r"needs at least 1 tasks|the evaluations of task \d must be"):
        worst_case_accuracy(course)


@given(st.data(), st.integers(2, 5))
def test_bounds_hold_whatever_the_course(data: st.DataObject, tasks: int) -> None:
    fraction = st.floats(0, 1)
    course = [
        data.draw(st.lists(st.lists(fraction, min_size=task, max_size=task), min_size=1, max_size=4))
        for task in range(1, tasks + 1)
    ]
    metrics = continual_metrics(course)
    assert all(-1e-12 <= value <= 1 + 1e-12 for value in metrics.values())
    end = np.array(course[-1][-1])
    assert metrics["average_minimum_accuracy"] <= end[:-1].mean() + 1e-12
    assert metrics["worst_case_accuracy"] <= end.mean() + 1e-12  # never above the average accuracy
    if all(len(evaluations) == 1 for evaluations in course):
        assert metrics["stability_gap"] == 0  # evaluated after each task alone, nothing is seen to come back
