"""Without the compiler an update rule is PyTorch's own, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch.optim import Optimizer

from pipeline.optimizers import build_optimizer

RULES: list[tuple[str, Callable[..., Optimizer], dict[str, Any]]] = [
    ("sgd", torch.optim.SGD, {}),
    ("sgd", torch.optim.SGD, {"momentum": 0.9}),
    ("adagrad", torch.optim.Adagrad, {"fused": True}),
    ("adam", torch.optim.Adam, {"fused": True}),
]


@pytest.mark.parametrize(("name", "rule", "options"), RULES, ids=lambda value: str(value))
def test_steps_are_those_of_pytorch(name: str, rule: Callable[..., Optimizer], options: dict[str, Any]) -> None:
    draw = torch.Generator().manual_seed(0)
    ours, theirs = (torch.linspace(-1, 1, 12).reshape(3, 4).clone().requires_grad_() for _ in range(2))
    one = build_optimizer([ours], name, 0.1, **{key: value for key, value in options.items() if key != "fused"})
    other = rule([theirs], lr=0.1, **options)
    for step in range(5):
        gradient = torch.randn(3, 4, generator=draw)
        for weight, optimizer in ((ours, one), (theirs, other)):
            weight.grad = gradient.clone()
            optimizer.step()
            assert weight.requires_grad and torch.is_grad_enabled()
            optimizer.zero_grad()
            assert weight.grad is None
        assert torch.equal(ours, theirs)
        if step == 2:  # the state of either is a state of the other
            one.load_state_dict(deepcopy(other.state_dict()))


def test_a_closure_is_evaluated_with_gradients() -> None:
    weight = torch.ones(2, requires_grad=True)
    rule = build_optimizer([weight], "sgd", 0.1)

    def loss() -> float:
        rule.zero_grad()
        value = weight.square().sum()
        torch.autograd.backward(value)
        return value.item()

    assert rule.step(loss) == 2.0
    assert weight.tolist() == pytest.approx([0.8, 0.8])


def test_an_unknown_rule_or_dtype_is_refused_by_name() -> None:
    weight = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match=r"unknown update rule 'sdg'; choose one of sgd, "):
        build_optimizer([weight], "sdg", 0.1)
    with pytest.raises(ValueError, match=r"bank_dtype must name a dtype of PyTorch, such as 'bfloat16', got 'float33'"):
        build_optimizer([weight], "tag", 0.1, bank_dtype="float33")


@pytest.mark.parametrize(
    ("given", "kept"), [(None, None), (torch.bfloat16, torch.bfloat16), ("bfloat16", torch.bfloat16)]
)
def test_a_dtype_may_be_given_as_it_is_or_by_its_name(given: object, kept: torch.dtype | None) -> None:
    rule = build_optimizer([torch.ones(2, requires_grad=True)], "tag", 0.1, bank_dtype=given)
    assert rule.param_groups[0]["bank_dtype"] is kept
