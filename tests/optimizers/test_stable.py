"""The learning rate of Stable SGD."""

from __future__ import annotations

import inspect

import pytest

from pipeline.config.regimes import MIN_LR
from pipeline.optimizers import stable_lr


def test_it_decays_from_the_first_task_to_a_floor_that_raises_no_rate() -> None:
    assert [stable_lr(0.1, 0.5, task) for task in (1, 2, 3)] == pytest.approx([0.05, 0.025, 0.0125])
    assert stable_lr(0.1, 0.5, 40) == 5e-5
    assert stable_lr(0.1, 0.5, 40, floor=0.0) == 0.1 * 0.5**40
    assert stable_lr(1e-5, 0.5, 1) == 1e-5
    assert stable_lr(0.1, 1.0, 9) == 0.1


def test_its_floor_is_that_of_the_pipeline() -> None:
    assert inspect.signature(stable_lr).parameters["floor"].default == MIN_LR


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((0.0, 0.5, 1), "lr must be above 0"),
        ((float("nan"), 0.5, 1), "lr must be above 0"),
        ((0.1, 0.5, 1, -1.0), "floor at least 0"),
        ((0.1, 1.5, 1), r"decay must be in \(0, 1\], got 1.5"),
        ((0.1, 0.0, 1), r"decay must be in \(0, 1\], got 0.0"),
        ((0.1, 0.5, 0), "task counts from 1, got 0"),
    ],
)
def test_what_is_out_of_range_is_refused(arguments: tuple[float, float, int], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        stable_lr(*arguments)
