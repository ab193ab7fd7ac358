"""Rank correlations and their intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from pipeline.analysis.prediction import described, distinct, model_holds_until, rank_correlation


def table(runs: int, pairs: int, noise: float, seed: int = 0) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=runs * pairs).round(1)  # with ties
    return pd.DataFrame(
        {
            "method": np.repeat([f"m{run}" for run in range(runs)], pairs),
            "seed": 1,
            "x": x,
            "y": x + noise * draw.normal(size=len(x)),
        }
    )


@pytest.mark.parametrize("noise", [0.0, 0.5, 5.0])
def test_the_value_is_scipys(noise: float) -> None:
    made = table(5, 20, noise)
    found = rank_correlation(made, "x", "y")
    assert found is not None
    assert found.value == pytest.approx(spearmanr(made["x"], made["y"]).statistic, abs=1e-12)
    assert (found.pairs, found.runs) == (100, 5)


def together(runs: int, pairs: int, seed: int) -> pd.DataFrame:
    """Runs each of which shifts both columns as a whole, by amounts that have nothing to do with each other."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(runs, pairs))
    y = 0.8 * x + 0.6 * draw.normal(size=x.shape)
    x, y = x + draw.normal(size=(runs, 1)), y + draw.normal(size=(runs, 1))
    method = np.repeat([f"m{run}" for run in range(runs)], pairs)
    return pd.DataFrame({"method": method, "seed": 1, "x": x.ravel(), "y": y.ravel()})


@pytest.mark.parametrize("runs", [3, 5, 9, 20])
def test_the_interval_holds_the_true_value_as_often_as_it_says(runs: int) -> None:
    truth = float(spearmanr(*together(20_000, 10, 1)[["x", "y"]].to_numpy().T).statistic)
    inside = 0
    for seed in range(100):
        found = rank_correlation(together(runs, 10, 100 + seed), "x", "y")
        assert found is not None and found.low is not None and found.high is not None
        inside += found.low <= truth <= found.high
    assert 88 <= inside <= 100  # 95 % of 100 with four standard deviations of chance; a bootstrap over 3 runs has 51


def test_runs_are_left_out_whole() -> None:
    """Copies of the pairs within a run tell nothing new, so they do not narrow the interval."""
    made = table(8, 10, 1.0)
    one, five = rank_correlation(made, "x", "y"), rank_correlation(pd.concat([made] * 5), "x", "y")
    assert one is not None and five is not None
    assert (five.low, five.high) == pytest.approx((one.low, one.high))


def test_what_is_undefined_is_none_and_few_runs_have_no_interval() -> None:
    made = table(2, 10, 1.0)
    assert rank_correlation(made.assign(x=1.0), "x", "y") is None
    assert rank_correlation(made.iloc[:2], "x", "y") is None
    assert rank_correlation(made.iloc[:0], "x", "y") is None
    found = rank_correlation(made, "x", "y")
    assert found is not None and found.low is None
    assert described(found).startswith("0.")
    assert described(None) == "undefined"
    perfect = rank_correlation(table(5, 10, 0.0), "x", "y")
    assert perfect is not None and (perfect.low, perfect.high) == (None, None)
    assert described(perfect) == "1.00"


def test_the_model_holds_until_it_first_leaves_the_loss() -> None:
    loss = [1.0, 1.1, 1.2, 1.4, 1.4]
    model = [1.0, 1.105, 1.25, 1.4, 1.4]  # a quarter off in the middle, and back again
    line = pd.DataFrame(
        {"method": "a", "seed": 1, "task": 1, "tasks_learnt": 2, "position": [0, 0.25, 0.5, 0.75, 1], "loss": loss,
         "model": model}
    )  # fmt: skip
    whole = line.assign(seed=2, model=line["loss"] + 0.009)
    assert model_holds_until(pd.concat([line, whole])).tolist() == [0.25, 1.0]


def test_a_run_that_repeats_another_counts_once() -> None:
    made = table(3, 10, 0.5)
    again = made[made["method"] == "m1"].assign(method="again")
    other_seed = made[made["method"] == "m2"].assign(seed=2)
    found = distinct(pd.concat([made, again, other_seed]))
    assert found.groupby(["method", "seed"]).size().to_dict() == {
        ("m0", 1): 10, ("m1", 1): 10, ("m2", 1): 10, ("m2", 2): 10,
    }  # fmt: skip
    assert rank_correlation(distinct(pd.concat([made, again])), "x", "y") == rank_correlation(made, "x", "y")
    nearly = again.assign(y=again["y"] + np.eye(10)[3])
    assert len(distinct(pd.concat([made, nearly]))) == 40
    assert distinct(made.iloc[:0]).empty
