from __future__ import annotations

import numpy as np
import pytest

from pipeline.analysis import metrics

# Row 0 the untrained network; worked out by hand.
A = [
    [0.1, 0.2, 0.1],
    [0.9, 0.3, 0.2],
    [0.7, 0.8, 0.4],
    [0.8, 0.5, 0.6],
]


def test_average_accuracy() -> None:
    assert metrics.average_accuracy(A) == pytest.approx((0.8 + 0.5 + 0.6) / 3)


def test_average_accuracy_course() -> None:
    assert metrics.average_accuracy_course(A) == pytest.approx([0.9, 0.75, 1.9 / 3])


def test_forgetting_compares_with_the_best_earlier_row() -> None:
    assert metrics.forgetting(A) == pytest.approx(((0.9 - 0.8) + (0.8 - 0.5)) / 2)


def test_forgetting_may_be_negative_but_the_papers_may_not() -> None:
    rising = [[0.0, 0.0], [0.5, 0.0], [0.9, 0.5]]
    assert metrics.forgetting(rising) == pytest.approx(-0.4)
    assert metrics.forgetting_paper(rising) == 0
    assert metrics.forgetting_paper(A) == pytest.approx(metrics.forgetting(A))


def test_forgetting_does_not_look_at_the_untrained_network() -> None:
    for forgetting in (metrics.forgetting, metrics.forgetting_paper):
        assert forgetting([[1.0, 1.0], [0.5, 0], [0.5, 0.5]]) == 0


def test_backward_transfer() -> None:
    assert metrics.backward_transfer(A) == pytest.approx(((0.8 - 0.9) + (0.5 - 0.8)) / 2)


def test_forward_transfer_is_against_the_untrained_network() -> None:
    assert metrics.forward_transfer(A) == pytest.approx(((0.3 - 0.2) + (0.4 - 0.1)) / 2)


def test_learning_accuracy() -> None:
    assert metrics.learning_accuracy(A) == pytest.approx((0.9 + 0.8 + 0.6) / 3)


def test_one_task_has_no_forgetting() -> None:
    assert set(metrics.all_metrics([[0.1], [0.9]])) == {"average_accuracy", "learning_accuracy"}
    with pytest.raises(ValueError, match="at least 2 tasks"):
        metrics.forgetting([[0.1], [0.9]])


@pytest.mark.parametrize("shape", [(3,), (3, 3), (2, 3)])
def test_a_matrix_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \(T \+ 1, T\)"):
        metrics.all_metrics(np.zeros(shape))


def test_tasks_neither_learnt_nor_next_need_no_evaluation() -> None:
    """Forgetting alone looks at them, and counts one only where a task was best before its turn, as in multi-task."""
    seen = [[value if i == 0 or j <= i else None for j, value in enumerate(row)] for i, row in enumerate(A)]
    assert seen[1] == [0.9, 0.3, None]
    assert metrics.all_metrics(seen) == pytest.approx(metrics.all_metrics(A))
    assert metrics.average_accuracy_course(seen) == pytest.approx(metrics.average_accuracy_course(A))
