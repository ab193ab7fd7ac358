"""The recorder as on a GPU, where it looks at the losses of fifty steps at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline.support.errors import DivergenceError
from pipeline.training.recorder import CURVE, Recorder

PLAIN = torch.optim.SGD([torch.zeros(1)], 0.1)


class Weighing(torch.optim.SGD):
    """An update rule with alphas of two tensors and two tasks."""

    alphas = torch.tensor([[0.25, 1.0], [0.75, math.nan]])


def recorder() -> Recorder:
    """Nothing of it needs the device itself."""
    made = Recorder("mine", 3, torch.device("cuda"))
    made.evaluated([0.1], [2.3])
    assert made.every == 50
    return made


def test_a_loss_that_diverges_between_two_looks_is_named_by_its_step() -> None:
    made = recorder()
    with pytest.raises(DivergenceError, match="mine, seed 3: the loss is nan at task 1, step 3;"):
        for step in range(1, 100):
            made.step(torch.tensor(math.nan if step == 3 else 1.0), PLAIN)
    assert len(made.losses) == 50


@pytest.mark.parametrize("at", [51, 56, 60])
def test_the_last_steps_of_a_task_are_looked_at_when_it_ends(at: int) -> None:
    made = recorder()
    for step in range(1, 61):
        made.step(torch.tensor(1e7 if step == at else 1.0), PLAIN)
    with pytest.raises(DivergenceError, match=f"the loss is 10000000.0 at task 1, step {at};"):
        made.end_task()


def test_alphas_are_means_over_the_tensors_that_have_them() -> None:
    made = recorder()
    for _ in range(3):
        made.step(torch.tensor(1.0), Weighing([torch.zeros(1)], 0.1))
    made.end_task()
    assert made.record.alpha == [[[0.5, 1.0]] * 3]


def test_losses_and_alphas_are_means_over_equal_stretches_of_the_steps() -> None:
    made = recorder()
    for step in range(40):
        weighing = Weighing([torch.zeros(1)], 0.1)
        weighing.alphas = torch.tensor([[step / 100, 1.0]])
        made.step(torch.tensor(float(step)), weighing)
    made.end_task()
    assert CURVE == 20
    assert made.record.train_loss == [[2 * pair + 0.5 for pair in range(20)]]
    assert np.array(made.record.alpha[0]) == pytest.approx(np.array([[0.02 * pair + 0.005, 1.0] for pair in range(20)]))
