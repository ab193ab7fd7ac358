from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.optimizers import TAG, RMSprop, build_optimizer
from pipeline.optimizers.eager import SGD, Adagrad, Adam
from tests.optimizers.gradients import make_params


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("sgd", {"momentum": 0.8}, SGD),
        ("rmsprop", {}, RMSprop),
        ("adagrad", {}, Adagrad),
        ("adam", {}, Adam),
        ("tag", {"base": "adam", "b": 7.0}, TAG),
    ],
)
def test_each_name_builds_its_update_rule_with_the_given_values(
    name: str, values: dict[str, Any], kind: type[torch.optim.Optimizer]
) -> None:
    params = make_params()
    optimizer = build_optimizer(params, name, lr=0.125, **values)
    assert type(optimizer) is kind
    (group,) = optimizer.param_groups
    assert all(own is given for own, given in zip(group["params"], params, strict=True))
    assert {"lr": 0.125, **values}.items() <= group.items()


def test_naive_sgd_has_no_momentum() -> None:
    assert build_optimizer(make_params(), "sgd", lr=0.1).param_groups[0]["momentum"] == 0


def test_tag_by_default_is_the_papers() -> None:
    group = build_optimizer(make_params(), "tag", lr=0.1).param_groups[0]
    assert (group["base"], group["b"], group["betas"], group["eps"]) == ("rmsprop", 5.0, (0.9, 0.99), 1e-8)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'rmsprob'; choose one of sgd, rmsprop, adagrad, adam, tag"):
        build_optimizer(make_params(), "rmsprob", lr=0.1)
