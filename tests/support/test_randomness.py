from __future__ import annotations

from typing import get_args

from pipeline.support.randomness import Purpose, generator, torch_seed


def test_every_stream_of_a_seed_is_the_one_that_the_records_were_made_with() -> None:
    """A new purpose goes to the end: one in between would change every number of every run."""
    assert {purpose: torch_seed(1, purpose) % 10**6 for purpose in get_args(Purpose)} == {
        "weights": 654960, "order": 429789, "dropout": 161565, "memory": 160048, "curvature": 179473,
        "evaluation": 961746, "classes": 827409,
    }  # fmt: skip
    assert generator(1, "order").permutation(5).tolist() == [4, 1, 0, 3, 2]
