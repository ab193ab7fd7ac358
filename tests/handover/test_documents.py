"""What is told of a document that does not match its schema."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.handover.documents import checked
from pipeline.handover.runs import Trained
from pipeline.handover.spectra import Spectra
from pipeline.support.errors import UserError
from tests.handover.doors import RUNS


def told(**changes: Any) -> str:
    """What is told of a run of two tasks with some of its keys changed."""
    matrix = [[0.5, 0.5], [1.0, 0.5], [0.5, 1.0]]
    value = {"accuracy": matrix, "test_loss": matrix, "train_loss": [[1.0], [1.0]], **changes}
    metrics = {"average_accuracy": 0.75, "learning_accuracy": 1.0, "forgetting": 0.5, "forgetting_paper": 0.25}
    with pytest.raises(UserError) as caught:
        checked(Trained, {**metrics, **value}, "a.json", "train it again")
    return str(caught.value)


def test_a_rule_over_several_keys_is_told_without_their_values() -> None:
    assert told(train_loss=[[1.0]]) == "a.json: train_loss must have a list for each of 2 tasks; train it again"


def test_a_wrong_value_is_told_with_its_key() -> None:
    assert told(average_accuracy=1.5) == (
        "a.json: average_accuracy: must be less than or equal to 1, is 1.5; train it again"
    )


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            lambda value: value.update(forgetting=value["forgetting"] + 0.1),
            "forgetting must be what the accuracy matrix",
        ),
        (lambda value: value.pop("forgetting"), "forgetting must be what the accuracy matrix gives"),
        (lambda value: value["alpha"][1][0].pop(), "alpha must have, for each task, a value for that task and each"),
        (lambda value: value["continual"].update(steps=[[4, 4], [4, 9]]), "steps must ascend within each task"),
    ],
)
def test_metrics_of_a_run_that_contradict_each_other_are_refused(
    change: Callable[[dict[str, Any]], Any], fault: str
) -> None:
    value = copy.deepcopy(dict(RUNS[0].train))
    checked(Trained, value, "a.json", "train it again")
    change(value)
    with pytest.raises(UserError, match=fault):
        checked(Trained, value, "a.json", "train it again")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda value: value["tasks"][0].pop("movement"), "the movement of task 1 must be that to each later task"),
        (lambda value: value["tasks"][0].update(parameters=1), "there cannot be more eigenvalues than parameters"),
    ],
)
def test_a_spectrum_that_contradicts_itself_is_refused(change: Callable[[dict[str, Any]], Any], fault: str) -> None:
    value = copy.deepcopy(dict(RUNS[0].eigenspectrum or {}))
    checked(Spectra, value, "a.json", "run it again")
    change(value)
    with pytest.raises(UserError, match=fault):
        checked(Spectra, value, "a.json", "run it again")
