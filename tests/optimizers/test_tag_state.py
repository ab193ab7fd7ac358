"""What TAG keeps: saving, loading and copying it, its groups, its alphas, its errors."""

from __future__ import annotations

import copy
import io
import math
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline.optimizers import TAG
from tests.optimizers.gradients import BASES, PlainTAG, feed, make_gradients, make_params, run

BANKS = ("past_directions", "past_second_moments")
TASKS, STEPS = 3, 3


def saved_and_loaded(state: dict[str, Any]) -> dict[str, Any]:
    """Through a file, as a checkpoint goes, with no pickled code allowed."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def bits(params: list[Tensor], optimizer: TAG) -> list[Tensor]:
    """Everything that the next step depends on."""
    return [*params, *(value for state in optimizer.state.values() for value in state.values())]


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return len(left) == len(right) and all(
        a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(left, right, strict=True)
    )


@settings(max_examples=25)
@given(
    base=st.sampled_from(BASES),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    bank_dtype=st.sampled_from([None, torch.bfloat16]),
    stop=st.integers(1, TASKS * STEPS - 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_save_load_and_continue_equals_never_having_stopped(
    base: Any, dtype: torch.dtype, bank_dtype: torch.dtype | None, stop: int, seed: int
) -> None:
    params = make_params(dtype=dtype, seed=seed)
    gradients = make_gradients(params, TASKS, STEPS, seed)
    optimizer = TAG(params, 0.01, base, bank_dtype=bank_dtype)
    interrupted, resumed = optimizer, params
    for number in range(TASKS * STEPS):
        task, step = divmod(number, STEPS)
        if number == stop:  # after the last step of a task, or in the middle of one
            resumed = [param.clone() for param in params]
            interrupted = TAG(resumed, 0.01, base, bank_dtype=bank_dtype)
            interrupted.load_state_dict(saved_and_loaded(optimizer.state_dict()))
        for one, tensors in ((optimizer, params), (interrupted, resumed))[: 1 + (number >= stop)]:
            if step == 0:
                one.begin_task()
            feed(one, tensors, gradients[task][step])
    assert same(bits(params, optimizer), bits(resumed, interrupted))
    assert torch.equal(optimizer.alphas, interrupted.alphas)


def test_loading_moves_the_state_to_the_device_of_its_parameter() -> None:
    params = make_params(dtype=torch.bfloat16)
    optimizer = TAG(params, 0.01, "adam")
    run(optimizer, params, make_gradients(params, 2, 1))
    elsewhere = [param.to("meta") for param in params]
    other = TAG(elsewhere, 0.01, "adam")
    other.load_state_dict(optimizer.state_dict())
    values = bits(elsewhere, other)
    assert {value.device.type for value in values} == {"meta"}
    assert {value.dtype for value in values[len(params) :]} == {torch.float32}


def test_loading_keeps_nothing_of_the_optimizer_that_was_saved() -> None:
    params = make_params()
    optimizer = TAG(params, 0.01, "adam")
    run(optimizer, params, make_gradients(params, 2, 1))
    other = TAG([param.clone() for param in params], 0.01, "adam")
    other.load_state_dict(optimizer.state_dict())
    kept = {value.data_ptr() for value in bits([], optimizer) if value.numel()}
    assert not kept & {value.data_ptr() for value in bits([], other) if value.numel()}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_continues_as_the_original_does(copied: Any) -> None:
    params = make_params()
    gradients = make_gradients(params, 3, 2)
    optimizer = TAG(params, 0.01, "adam")
    run(optimizer, params, gradients[:2])
    twins, twin = copied((params, optimizer))
    with pytest.raises(RuntimeError, match=r"load_state_dict\(\) or a copy: there are no alphas"):
        _ = twin.alphas
    for one, tensors in ((optimizer, params), (twin, twins)):
        feed(one, tensors, gradients[1][0])
        run(one, tensors, gradients[2:])
    assert same(bits(params, optimizer), bits(twins, twin))
    assert torch.equal(optimizer.alphas, twin.alphas)


@pytest.mark.parametrize(
    ("dtype", "state_dtype"),
    [(torch.float32, torch.float32), (torch.float64, torch.float64), (torch.bfloat16, torch.float32)],
)
@pytest.mark.parametrize("base", BASES)
def test_the_state_is_float32_or_better(base: Any, dtype: torch.dtype, state_dtype: torch.dtype) -> None:
    params = make_params(dtype=dtype)
    optimizer = TAG(params, 0.01, base)
    run(optimizer, params, make_gradients(params, 2, 2))
    assert {value.dtype for value in bits([], optimizer)} == {state_dtype}
    assert {param.dtype for param in params} == {dtype}


def test_parameters_of_several_dtypes_share_a_group() -> None:
    params = make_params()
    mixed = [param.to(dtype) for param, dtype in zip(params, [torch.float32, torch.float64] * 3, strict=False)]
    gradients = make_gradients(params, 3, 2)
    wanted = run(TAG(params, 0.01), params, gradients)[-1]
    cast = [[[g.to(p.dtype) for g, p in zip(step, mixed, strict=True)] for step in task] for task in gradients]
    torch.testing.assert_close(run(TAG(mixed, 0.01), mixed, cast)[-1], wanted.float())
    torch.testing.assert_close([param.double() for param in mixed], params, rtol=1e-5, atol=1e-5)


def test_a_bank_holds_two_numbers_a_parameter_and_past_task_and_bfloat16_halves_it() -> None:
    sizes = []
    for dtype in (None, torch.bfloat16):
        params = make_params(dtype=torch.float32)
        optimizer = TAG(params, 0.01, bank_dtype=dtype)
        run(optimizer, params, make_gradients(params, 4, 1))
        sizes.append(sum(state[bank].nbytes for state in optimizer.state.values() for bank in BANKS))
    assert sizes[0] == 2 * 4 * 3 * sum(param.numel() for param in params)
    assert sizes[1] * 2 == sizes[0]


def test_parameters_added_in_mid_stream_count_earlier_tasks_as_unseen() -> None:
    params = make_params(((4, 3), (6,)))
    gradients = make_gradients(params, 4, 2)
    optimizer = TAG(params[:1], 0.1)
    run(optimizer, params[:1], [[step[:1] for step in task] for task in gradients[:2]])
    optimizer.add_param_group({"params": [params[1]], "lr": 0.05})
    plain = PlainTAG(params[1], 0.05, "rmsprop", 5)
    plain.begin_task()
    plain.begin_task()
    for step in gradients[1]:  # the second task goes on
        feed(optimizer, params, step)
        wanted = plain.step(step[1])
        torch.testing.assert_close(optimizer.alphas[1], torch.tensor(wanted, dtype=torch.float64))
    run(optimizer, params, gradients[2:])
    for task in gradients[2:]:
        plain.begin_task()
        wanted = [plain.step(step[1]) for step in task][-1]
    assert optimizer.alphas.shape == (2, 4)
    torch.testing.assert_close(optimizer.alphas[1], torch.tensor(wanted, dtype=torch.float64))
    torch.testing.assert_close(params[1], plain.theta)


def test_rows_of_alphas_are_named_as_the_parameters_are() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    named = TAG(model.named_parameters(), 0.1)
    assert named.alpha_names == ["0.weight", "0.bias", "1.weight", "1.bias"]
    unnamed = TAG([{"params": list(model[0].parameters())}, {"params": list(model[1].parameters())}], 0.1)
    assert unnamed.alpha_names == ["0.0", "0.1", "1.0", "1.1"]


def test_alphas_are_those_of_the_last_step_and_stay_when_it_moves_on() -> None:
    params = make_params()
    optimizer = TAG(params, 0.1)
    with pytest.raises(RuntimeError, match="begin_task"):
        _ = optimizer.alphas
    steps = run(optimizer, params, make_gradients(params, 2, 2))
    assert [tuple(alphas.shape) for alphas in steps] == [(5, 1), (5, 1), (5, 2), (5, 2)]
    assert not torch.equal(steps[2], steps[3])
    optimizer.begin_task()
    assert optimizer.tasks == 3
    with pytest.raises(RuntimeError, match="begin_task"):
        _ = optimizer.alphas


def test_a_step_before_the_first_task_says_what_to_call() -> None:
    params = make_params()
    with pytest.raises(RuntimeError, match=r"begin_task\(\)"):
        feed(TAG(params, 0.1), params, [torch.ones_like(param) for param in params])


def test_sparse_gradients_are_refused() -> None:
    embedding = nn.Embedding(4, 2, sparse=True)
    optimizer = TAG(embedding.parameters(), 0.1)
    optimizer.begin_task()
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"lr": -0.1}, "lr"),
        ({"lr": math.nan}, "lr"),
        ({"lr": math.inf}, "lr"),
        ({"lr": torch.ones(2)}, "lr"),
        ({"base": "sgd"}, "base"),
        ({"b": math.nan}, "b must"),
        ({"b": 1000.0}, "b must"),
        ({"betas": (1.0, 0.99)}, "betas"),
        ({"betas": (-0.1, 0.99)}, "betas"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"eps": -1e-8}, "eps"),
        ({"eps": math.nan}, "eps"),
        ({"bank_dtype": torch.int8}, "bank_dtype"),
        ({"bank_dtype": "bfloat16"}, r"such as torch\.bfloat16, or None, is 'bfloat16'"),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_name(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        TAG(make_params(), **({"lr": 0.1} | arguments))
    with pytest.raises(ValueError, match=named):
        TAG([{"params": make_params(), **arguments}], lr=0.1)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"weight_decay": 0.5}, "TAG has no weight_decay: remove it"),
        ({"momentum": 0.9, "weight_decay": 0.5}, "TAG has no momentum, weight_decay: remove it"),
        ({"base": "adam"}, r"base of the optimizer, 'rmsprop': remove the group's own, 'adam', and give it as TAG\("),
        ({"base": "addam"}, "remove the group's own, 'addam'"),
    ],
)
def test_a_group_cannot_bring_what_would_be_ignored(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        TAG([{"params": make_params(), **values}], lr=0.1)
    optimizer = TAG(make_params(), lr=0.1)
    with pytest.raises(ValueError, match=told):
        optimizer.add_param_group({"params": make_params(), **values})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_a_group_of_other_than_real_numbers_is_not_added(dtype: torch.dtype) -> None:
    odd = torch.zeros(3, dtype=dtype)
    with pytest.raises(ValueError, match=f"real floating-point parameters, got {dtype}"):
        TAG([odd], lr=0.1)
    optimizer = TAG(make_params(), lr=0.1)
    with pytest.raises(ValueError, match=f"real floating-point parameters, got {dtype}"):
        optimizer.add_param_group({"params": [odd]})
    assert len(optimizer.param_groups) == 1


def test_two_optimizers_made_from_the_same_groups_count_their_own_tasks() -> None:
    """PyTorch takes the caller's dict itself for a group."""
    groups: list[dict[str, Any]] = [
        {"params": [torch.zeros(3, requires_grad=True)]},
        {"params": [torch.zeros(2, requires_grad=True)], "b": 1.0},
    ]
    first = TAG(groups, 0.1)
    first.begin_task()
    first.begin_task()
    for second in (TAG(groups, 0.1), TAG([dict(group) for group in first.param_groups], 0.1)):
        assert second.tasks == 0
        with pytest.raises(RuntimeError, match=r"before begin_task\(\)"):
            second.step()
        second.begin_task()
        assert [group["tasks"] for group in second.param_groups] == [1, 1]
    assert first.tasks == 2
    first.add_param_group(group := {"params": [torch.zeros(1, requires_grad=True)]})
    assert group.keys() == {"params"}
    assert [group["tasks"] for group in first.param_groups] == [2, 2, 2]


def test_a_group_added_after_a_state_was_loaded_has_the_base_of_the_state() -> None:
    optimizer, params = TAG([torch.zeros(3)], 0.1, base="adam"), make_params()
    optimizer.load_state_dict(TAG([torch.zeros(3)], 0.1, base="rmsprop").state_dict())
    optimizer.add_param_group({"params": params})
    assert [group["base"] for group in optimizer.param_groups] == ["rmsprop", "rmsprop"]
    with pytest.raises(ValueError, match="base of the optimizer, 'rmsprop'"):
        optimizer.add_param_group({"params": make_params(), "base": "adam"})


@pytest.mark.parametrize(
    "schedule",
    [
        lambda rule: torch.optim.lr_scheduler.ExponentialLR(rule, 0.5),
        lambda rule: torch.optim.lr_scheduler.OneCycleLR(rule, 0.1, total_steps=9),
        lambda rule: torch.optim.lr_scheduler.CyclicLR(rule, 0.01, 0.1),
        lambda rule: torch.optim.swa_utils.SWALR(rule, 0.05),
    ],
)
def test_groups_that_a_scheduler_has_written_to_make_another_optimizer_and_go_through_a_file(schedule: Any) -> None:
    optimizer = TAG([("weight", torch.zeros(3))], 0.1)
    schedule(optimizer)
    other = TAG([{"name": "body", **group} for group in optimizer.param_groups], 0.1)
    assert other.param_groups[0].keys() == optimizer.param_groups[0].keys() | {"name"}
    other.load_state_dict(saved_and_loaded(other.state_dict()))
    assert other.param_groups[0].keys() == optimizer.param_groups[0].keys() | {"name"}


@pytest.mark.parametrize("rule", [torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adam])
@pytest.mark.parametrize("steps", [0, 1])
def test_the_state_of_another_optimizer_is_refused_before_anything_changes(rule: Any, steps: int) -> None:
    params = make_params()
    gradients = make_gradients(params, 2, 2)
    optimizer = TAG(params, 0.01)
    run(optimizer, params, gradients)
    before = copy.deepcopy(optimizer.state_dict())
    others = make_params()
    other = rule(others, 0.1)
    for _ in range(steps):
        feed(other, others, gradients[0][0])
    disguised = {
        "state": {0: {"square_avg": torch.zeros(3)}},
        "param_groups": optimizer.state_dict()["param_groups"],
    }
    for foreign in (other.state_dict(), nn.Linear(2, 2).state_dict(), disguised):
        with pytest.raises(ValueError, match="not a state of TAG"):
            optimizer.load_state_dict(foreign)
        assert repr(optimizer.state_dict()) == repr(before)


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_only_real_floating_point_parameters_are_taken(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="floating-point"):
        TAG([torch.zeros(2, dtype=dtype)], 0.1)


def test_repr_shows_the_values_of_each_group() -> None:
    text = repr(TAG(make_params(), 0.125, "adam", 7))
    assert all(part in text for part in ("TAG", "lr: 0.125", "base: adam", "b: 7"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float8_e4m3fn])
def test_banks_that_cannot_hold_squares_of_gradients_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="must have the range of float32"):
        TAG([torch.nn.Parameter(torch.ones(2))], lr=0.1, bank_dtype=dtype)


def test_no_group_is_stepped_where_another_has_a_sparse_gradient() -> None:
    dense, sparse = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    optimizer = TAG([{"params": [dense]}, {"params": [sparse]}], lr=0.1)
    optimizer.begin_task()
    dense.grad, sparse.grad = torch.ones(2), torch.ones(2).to_sparse()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    assert torch.equal(dense, torch.ones(2))


def test_a_group_added_to_a_loaded_state_has_its_betas() -> None:
    saved = TAG([torch.nn.Parameter(torch.ones(2))], lr=0.1, base="adam").state_dict()
    optimizer = TAG([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    optimizer.load_state_dict(saved)
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
    assert optimizer.param_groups[1]["betas"] == optimizer.param_groups[0]["betas"] == (0.9, 0.999)
