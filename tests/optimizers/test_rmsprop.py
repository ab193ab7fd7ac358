"""RMSprop is PyTorch's but for the last bit of its root."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pipeline.optimizers import RMSprop, build_optimizer
from tests.optimizers.gradients import make_params

RULES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adam": torch.optim.Adam,
}


def steps(optimizer: torch.optim.Optimizer, count: int, seed: int = 0) -> None:
    """Some steps with seeded gradients; the last parameter has none in every other."""
    generator = torch.Generator().manual_seed(seed)
    params = optimizer.param_groups[0]["params"]
    for step in range(count):
        for number, param in enumerate(params):
            draw = torch.randn(param.shape, generator=generator, dtype=torch.float64).to(param.dtype)
            param.grad = None if number == len(params) - 1 and step % 2 else draw
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", RULES)
def test_each_rule_takes_pytorchs_steps(name: str, dtype: torch.dtype) -> None:
    ours = [param.detach().to(dtype).requires_grad_() for param in make_params()]
    theirs = copy.deepcopy(ours)
    steps(build_optimizer(ours, name, lr=0.01), 50)
    steps(RULES[name](theirs, lr=0.01), 50)
    rtol, atol = (2e-5, 1e-6) if dtype == torch.float32 else (1e-12, 1e-13)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol)


def test_it_goes_on_from_a_state_bit_for_bit() -> None:
    whole, first = make_params(), make_params()
    optimizer = RMSprop(whole, lr=0.01)
    steps(optimizer, 5)
    steps(optimizer, 5, seed=1)
    before = RMSprop(first, lr=0.01)
    steps(before, 5)
    second = copy.deepcopy(first)
    after = RMSprop(second, lr=0.5)
    after.load_state_dict(before.state_dict())
    steps(after, 5, seed=1)
    assert all(torch.equal(one, other) for one, other in zip(whole, second, strict=True))


def test_a_closure_is_called_and_its_loss_returned() -> None:
    (param,) = params = [torch.nn.Parameter(torch.ones(3))]
    optimizer = RMSprop(params, lr=0.1)

    def closure() -> float:
        loss = (param**2).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        return float(loss.detach())

    assert optimizer.step(closure) == 3.0
    assert (param < 1).all()


@pytest.mark.parametrize(
    "values", [{"lr": -1.0}, {"alpha": 1.0}, {"eps": -1e-8}, {"lr": float("nan")}, {"lr": torch.tensor(0.1)}]
)
def test_values_out_of_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        RMSprop(make_params(), **values)
    with pytest.raises(ValueError, match=next(iter(values))):
        RMSprop([{"params": make_params(), **values}])


def test_a_group_sets_its_own_values_and_no_others() -> None:
    ours, theirs = make_params(), make_params()
    groups = [{"lr": 0.1, "alpha": 0.5, "eps": 1e-2}, {"lr": 0.01, "alpha": 0.0}]
    halves = [
        [{"params": half, **group} for half, group in zip((p[:2], p[2:]), groups, strict=True)] for p in (ours, theirs)
    ]
    one, other = RMSprop(halves[0]), torch.optim.RMSprop(halves[1])
    for step in range(20):
        for pair in zip(ours, theirs, strict=True):
            draw = torch.randn(pair[0].shape, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
            for param in pair:
                param.grad = draw.to(param.dtype)
        one.step()
        other.step()
    torch.testing.assert_close(ours, theirs)
    with pytest.raises(ValueError, match="RMSprop has no momentum, weight_decay: remove it"):
        RMSprop([{"params": make_params(), "momentum": 0.9, "weight_decay": 0.1}])


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_parameters_of_other_than_real_numbers_are_refused(dtype: torch.dtype) -> None:
    """The square of a complex gradient is no second moment."""
    optimizer = RMSprop(make_params())
    with pytest.raises(ValueError, match=f"real floating-point parameters, got {dtype}"):
        optimizer.add_param_group({"params": [torch.zeros(3, dtype=dtype)]})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_parameters_have_a_state_and_steps_in_float32(dtype: torch.dtype) -> None:
    """In float16 an eps of 1e-8 is 0, and 0 / 0 no number."""
    short = [param.detach().to(dtype).requires_grad_() for param in make_params()]
    optimizer = RMSprop(short, lr=0.01)
    for param in short:
        param.grad = torch.zeros_like(param)
    before = copy.deepcopy(short)
    optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(short, before, strict=True))
    long = [param.detach().float() for param in short]
    other = RMSprop(long, lr=0.01)
    for seed in range(5):
        for one, plain in zip(short, long, strict=True):
            generator = torch.Generator().manual_seed(seed)
            one.grad = (1e-3 * torch.randn(one.shape, generator=generator)).to(dtype)
            plain.grad = one.grad.float()
            with torch.no_grad():
                plain.copy_(one)
        optimizer.step()
        other.step()
        for one, plain in zip(short, long, strict=True):
            assert one.dtype == dtype
            assert optimizer.state[one]["square_avg"].dtype == torch.float32
            torch.testing.assert_close(one, plain.to(dtype))
    resumed = copy.deepcopy(short)
    after = RMSprop(resumed)
    after.load_state_dict(optimizer.state_dict())
    for one, again in zip(short, resumed, strict=True):
        assert torch.equal(after.state[again]["square_avg"], optimizer.state[one]["square_avg"])
        assert after.state[again]["square_avg"].dtype == torch.float32
        assert after.state[again]["square_avg"] is not optimizer.state[one]["square_avg"]


def test_parameters_of_both_kinds_are_stepped_each_in_its_own() -> None:
    ours = [torch.nn.Parameter(torch.ones(3, dtype=dtype)) for dtype in (torch.float32, torch.float16, torch.float64)]
    for param in ours:
        param.grad = torch.ones_like(param)
    RMSprop(ours, lr=0.01, alpha=0.75).step()  # g / sqrt(V) is 2
    for param in ours:
        torch.testing.assert_close(param, torch.full_like(param, 0.98))


def test_no_group_is_stepped_where_another_has_a_sparse_gradient() -> None:
    dense, sparse = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    optimizer = RMSprop([{"params": [dense]}, {"params": [sparse]}], lr=0.1)
    dense.grad, sparse.grad = torch.ones(2), torch.ones(2).to_sparse()
    with pytest.raises(RuntimeError, match="RMSprop does not take sparse gradients; make them dense"):
        optimizer.step()
    assert torch.equal(dense, torch.ones(2))
    assert not optimizer.state


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        (torch.optim.SGD, {}),
        (torch.optim.Adam, {}),
        (torch.optim.RMSprop, {"momentum": 0.9}),
        (torch.optim.Adadelta, {}),
    ],
)
def test_a_state_of_another_optimizer_is_refused_and_nothing_changed(
    rule: Callable[..., torch.optim.Optimizer], values: dict[str, Any]
) -> None:
    params = make_params()
    optimizer, other = RMSprop(params, lr=0.01), rule(make_params(), lr=0.5, **values)
    steps(optimizer, 2)
    steps(other, 2)
    before = copy.deepcopy(optimizer.state_dict())
    for state in (
        other.state_dict(),
        rule(make_params(), lr=0.5, **values).state_dict(),
        torch.nn.Linear(2, 2).state_dict(),
    ):
        with pytest.raises(ValueError, match="this is not a state of RMSprop"):
            optimizer.load_state_dict(state)
    wider = [torch.nn.Parameter(torch.cat([param, param]) if param.dim() else param) for param in make_params()]
    larger = RMSprop(wider)
    steps(larger, 1)
    with pytest.raises(ValueError, match="this is the state of another model: parameter 0 had the shape"):
        optimizer.load_state_dict(larger.state_dict())
    assert str(optimizer.state_dict()) == str(before)


def test_it_goes_on_from_a_state_of_pytorchs() -> None:
    theirs = make_params()
    other = torch.optim.RMSprop(theirs, lr=0.01)
    steps(other, 5)
    ours = copy.deepcopy(theirs)
    optimizer = RMSprop(ours)
    optimizer.load_state_dict(other.state_dict())
    steps(other, 5, seed=1)
    steps(optimizer, 5, seed=1)
    torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=1e-6)
