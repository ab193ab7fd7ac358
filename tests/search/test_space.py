"""What a search may try, as it is written."""

from __future__ import annotations

import pytest

from pipeline.search.space import Range, Values, corners, grid, read_space
from pipeline.support.errors import UserError


def test_a_grid_is_every_combination() -> None:
    assert grid(read_space(["lr=0.1,1e-3", "base=adam"])) == [
        {"lr": 0.1, "base": "adam"},
        {"lr": 0.001, "base": "adam"},
    ]


def test_a_range_is_of_whole_numbers_where_the_setting_is() -> None:
    """Not where its ends are written as such."""
    wholes = {
        assignment: axis.whole
        for assignment in ("derpp_alpha=0..1", "b=1..10:log", "epochs=1..3", "memory_batch=8..64", "passes=1..2")
        for axis in read_space([assignment]).values()
        if isinstance(axis, Range)
    }
    assert list(wholes.values()) == [False, False, True, True, True]
    space = read_space(["lr=0.001..0.1:log", "batch_size=8..64", "dropout=0..0.5"])
    assert space == {"lr": Range(0.001, 0.1, True), "batch_size": Range(8, 64, False), "dropout": Range(0, 0.5, False)}
    assert [axis.whole for axis in space.values() if isinstance(axis, Range)] == [False, True, False]
    assert {"lr": 0.1, "batch_size": 8, "dropout": 0.5} in corners(space)
    assert len(corners(space)) == 8
    with pytest.raises(UserError, match="'lr' has a range, which no grid can go through"):
        grid(space)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("lr", "KEY=VALUE"),
        ("lr=", "KEY=VALUE"),
        ("lrr=1", "did you mean 'lr'"),
        ("lr=0.1,0.1", "a value stands twice"),
        ("lr=1,1.0", "a value stands twice"),
        ("lr=1..", "KEY=LOW..HIGH"),
        ("lr=a..b", "KEY=LOW..HIGH"),
        ("lr=true..5", "KEY=LOW..HIGH"),
        ("lr=0.1..inf", "KEY=LOW..HIGH"),
        ("lr=0.1..nan", "KEY=LOW..HIGH"),
        (f"batch_size=1..1{'0' * 309}", "KEY=LOW..HIGH"),
        ("lr=0.1..0.2:lin", "KEY=LOW..HIGH"),
        ("lr=0.1..0.2:", "KEY=LOW..HIGH"),
        ("lr=0.2..0.1", "LOW must be below HIGH"),
        ("dropout=0..0.5:log", "above 0 with :log"),
    ],
)
def test_what_is_wrong_with_a_space_is_told(word: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_space([word])


def test_a_setting_stands_once() -> None:
    with pytest.raises(UserError, match="'lr' stands twice"):
        read_space(["lr=1", "lr=2"])
    with pytest.raises(UserError, match="nothing to search"):
        read_space([])
    with pytest.raises(UserError, match="more than 100,000 points"):
        grid({key: Values(tuple(range(400))) for key in ("lr", "b")})


def test_values_of_one_setting_are_text_numbers_or_what_yaml_has_words_for() -> None:
    space = read_space(["base=adam,rmsprop", "lr=1,1e-3", "memory_batch=10,null", "one_pass=true,false"])
    with pytest.raises(UserError, match=r"'lr=null,0\.1': null is no value of lr; leave it out"):
        read_space(["lr=null,0.1"])
    assert space == {
        "base": Values(("adam", "rmsprop")),
        "lr": Values((1, 0.001)),
        "memory_batch": Values((10, None)),
        "one_pass": Values((True, False)),
    }
    one_pass = space["one_pass"]
    assert isinstance(one_pass, Values) and one_pass.values[0] is True
