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


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adagrad", "adam", "tag"])
def test_groups_of_parameters_are_taken_whatever_holds_them(name: str) -> None:
    first, second, third = make_params()[:3]
    groups: list[dict[str, Any]] = [
        {"params": iter([("first", first), ("second", second)]), "lr": 0.5},
        {"params": [("third", third)]},
    ]
    optimizer = build_optimizer(groups, name, lr=0.125)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 1]
    assert optimizer.param_groups[0]["params"][1] is second
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.125]


def test_a_group_with_one_parameter_on_another_device_is_not_fused() -> None:
    here, elsewhere = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2, device="meta"))
    groups: list[dict[str, Any]] = [{"params": here}, {"params": [elsewhere]}]
    both = build_optimizer(groups, "adam", lr=0.1)
    assert not both.param_groups[0]["fused"]
    assert build_optimizer([{"params": here}], "adam", lr=0.1).param_groups[0]["fused"]


def test_an_implementation_that_the_caller_chooses_is_kept() -> None:
    assert build_optimizer(make_params(), "adam", lr=0.1, foreach=True).param_groups[0]["foreach"]
    assert not build_optimizer(make_params(), "adam", lr=0.1, fused=False).param_groups[0]["fused"]


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adagrad", "adam", "tag"])
def test_a_step_that_records_no_graph_is_not_called_differentiable(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} cannot be differentiable, .*: remove it, or use torch.optim"):
        build_optimizer(make_params(), name, lr=0.1, differentiable=True)
    with pytest.raises(ValueError, match="differentiable"):
        build_optimizer([{"params": make_params(), "differentiable": True}], name, lr=0.1)
    group = build_optimizer(make_params(), name, lr=0.1, differentiable=False).param_groups[0]
    assert not group.get("differentiable")
