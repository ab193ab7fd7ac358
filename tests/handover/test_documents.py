"""What is told of a document that does not match its schema."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.handover.documents import checked
from pipeline.handover.runs import Trained
from pipeline.support.errors import UserError


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
