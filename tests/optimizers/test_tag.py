"""The update itself: against the published traces, against its formulas, and at its edges."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.optimizers import TAG
from tests.optimizers.gradients import BASES, PlainTAG, feed, make_gradients, make_params, run

GOLDEN = Path(__file__).parent / "golden"

properties = settings(max_examples=25)
bases = st.sampled_from(BASES)
seeds = st.integers(0, 2**32 - 1)
rates = st.floats(1e-5, 1.0)
sharpness = st.floats(-8, 8)
shapes = st.lists(st.lists(st.integers(1, 9), max_size=3).map(tuple), min_size=1, max_size=5)


@pytest.mark.parametrize("base", BASES)
def test_the_published_update_is_followed_step_by_step(base: str) -> None:
    with np.load(GOLDEN / f"tag_{base}.npz") as trace:
        names = [str(name) for name in trace["names"]]
        params = [torch.from_numpy(trace[f"init/{name}"]) for name in names]
        optimizer = TAG(zip(names, params, strict=True), float(trace["lr"]), trace["base"].item(), float(trace["b"]))
        for task in range(int(trace["tasks"])):
            optimizer.begin_task()
            for step in range(int(trace["steps"])):
                feed(optimizer, params, [torch.from_numpy(trace[f"grad/{task}/{step}/{name}"]) for name in names])
                for name, param, alpha in zip(names, params, optimizer.alphas, strict=True):
                    where = f"{task}/{step}/{name}"
                    np.testing.assert_allclose(param, trace[f"param/{where}"], rtol=1e-5, atol=1e-8, err_msg=where)
                    wanted = np.broadcast_to(trace[f"alpha/{where}"], alpha.shape)
                    np.testing.assert_allclose(alpha, wanted, rtol=1e-5, atol=1e-5, err_msg=where)


@properties
@given(bases, seeds, shapes, rates, sharpness)
def test_every_step_follows_the_formulas(
    base: Any, seed: int, shapes: list[tuple[int, ...]], lr: float, b: float
) -> None:
    params = make_params(shapes, seed=seed)
    plain = [PlainTAG(param, lr, base, b) for param in params]
    optimizer = TAG(params, lr, base, b)
    for task in make_gradients(params, tasks=3, steps=3, seed=seed):
        optimizer.begin_task()
        for one in plain:
            one.begin_task()
        for gradients in task:
            feed(optimizer, params, gradients)
            wanted = [one.step(gradient) for one, gradient in zip(plain, gradients, strict=True)]
            torch.testing.assert_close(optimizer.alphas, torch.tensor(wanted, dtype=torch.float64))
            torch.testing.assert_close(params, [one.theta for one in plain])


@pytest.mark.parametrize("betas", [(0.0, 0.9), (0.5, 0.0), (0.8, 0.95)])
@pytest.mark.parametrize("base", BASES)
def test_a_group_sets_its_own_betas_and_eps(base: Any, betas: tuple[float, float]) -> None:
    params, others = make_params(), make_params()
    tag = TAG([{"params": params, "betas": betas, "eps": 1e-2}], 0.1, base)
    rule: Any = {"rmsprop": torch.optim.RMSprop, "adagrad": torch.optim.Adagrad, "adam": torch.optim.Adam}[base]
    own: dict[str, dict[str, Any]] = {"rmsprop": {"alpha": betas[1]}, "adagrad": {}, "adam": {"betas": betas}}
    plain = rule(others, 0.1, eps=1e-2, **own[base])
    first, second = make_gradients(params, tasks=2, steps=3)
    tag.begin_task()
    for gradients in first:
        feed(tag, params, gradients)
        feed(plain, others, gradients)
        torch.testing.assert_close(params, others, rtol=1e-12, atol=1e-14)
    tag.begin_task()
    for gradients in second:
        feed(tag, params, gradients)
    directions = [torch.zeros_like(param) for param in params], [torch.zeros_like(param) for param in params]
    for moments, task in zip(directions, (first, second), strict=True):
        for gradients in task:
            for moment, gradient in zip(moments, gradients, strict=True):
                moment.mul_(betas[0]).add_(gradient, alpha=1 - betas[0])
    cosines = [torch.cosine_similarity(m.flatten(), n.flatten(), dim=0) for m, n in zip(*directions, strict=True)]
    torch.testing.assert_close(tag.alphas[:, 0], torch.exp(-5 * torch.stack(cosines)))


@properties
@given(bases, seeds, shapes, rates)
def test_one_task_equals_the_base_update(base: Any, seed: int, shapes: list[tuple[int, ...]], lr: float) -> None:
    params, others = make_params(shapes, seed=seed), make_params(shapes, seed=seed)
    tag = TAG(params, lr, base)
    rule: Any = {"rmsprop": torch.optim.RMSprop, "adagrad": torch.optim.Adagrad, "adam": torch.optim.Adam}[base]
    plain = rule(others, lr, eps=1e-8)  # by default RMSprop's alpha is 0.99, Adam's betas 0.9 and 0.999
    tag.begin_task()
    for gradients in make_gradients(params, tasks=1, steps=6, seed=seed)[0]:
        feed(tag, params, gradients)
        feed(plain, others, gradients)
        assert torch.equal(tag.alphas, torch.ones(len(params), 1, dtype=torch.float64))
        torch.testing.assert_close(params, others, rtol=1e-12, atol=1e-14)


@properties
@given(bases, seeds, sharpness, st.floats(0.01, 100))
def test_an_identical_direction_gives_exp_minus_b_and_an_opposite_one_exp_b(
    base: Any, seed: int, b: float, scale: float
) -> None:
    params = make_params(seed=seed)
    task = make_gradients(params, tasks=1, steps=4, seed=seed)[0]

    def scaled(factor: float) -> list[list[Tensor]]:
        return [[gradient * factor for gradient in step] for step in task]

    alphas = run(TAG(params, 1e-3, base, b), params, [task, scaled(-scale), scaled(scale)])
    wanted = torch.tensor([math.exp(-b), math.exp(b), math.exp(-b)], dtype=torch.float64)
    torch.testing.assert_close(alphas[-1], wanted.expand(len(params), 3))


def test_rounding_never_takes_alpha_past_its_bounds() -> None:
    params = [torch.zeros(size) for size in range(1, 200)]
    task = make_gradients(params, tasks=1, steps=1)[0]
    alphas = run(TAG(params, 0.1), params, [task, task])[-1]
    assert (alphas[:, 0] >= alphas[:, 1]).all()  # the right column is exp(-b), the least there is


def test_an_orthogonal_direction_gives_alpha_1() -> None:
    params = [torch.zeros(2)]
    alphas = run(TAG(params, 0.1), params, [[[torch.tensor([1.0, 0.0])]], [[torch.tensor([0.0, 1.0])]]])
    torch.testing.assert_close(alphas[-1], torch.tensor([[1.0, math.exp(-5)]]))


@properties
@given(bases, seeds, rates, st.floats(0.01, 100))
def test_the_learning_rate_scales_every_step(base: Any, seed: int, lr: float, factor: float) -> None:
    params, others = ([param.zero_() for param in make_params()] for _ in range(2))
    gradients = make_gradients(params, tasks=3, steps=3, seed=seed)
    run(TAG(params, lr, base), params, gradients)
    run(TAG(others, lr * factor, base), others, gradients)
    torch.testing.assert_close([param * factor for param in params], others, rtol=1e-10, atol=1e-12)


@properties
@given(bases, seeds, shapes, st.randoms(use_true_random=False))
def test_the_order_of_parameters_does_not_matter(
    base: Any, seed: int, shapes: list[tuple[int, ...]], random: Any
) -> None:
    shapes = [*shapes, (33, 7), (1,), (257,)]
    order = random.sample(range(len(shapes)), len(shapes))
    params = make_params(shapes, torch.float32, seed)
    others = [make_params(shapes, torch.float32, seed)[place] for place in order]
    gradients = make_gradients(params, tasks=4, steps=2, seed=seed)
    shuffled = [[[step[place] for place in order] for step in task] for task in gradients]
    alphas = run(TAG(params, 1e-2, base), params, gradients)[-1]
    # Not the same bits everywhere: an exponential may round otherwise at another place in the table of alphas.
    torch.testing.assert_close(run(TAG(others, 1e-2, base), others, shuffled)[-1], alphas[order], rtol=1e-5, atol=0)
    torch.testing.assert_close([params[place] for place in order], others, rtol=1e-5, atol=1e-6)


@properties
@given(bases, seeds, st.lists(st.sampled_from([0.0, 1e-38, 1e-30, 1e-20, 1e-12, 1.0, 1e15]), min_size=4, max_size=4))
def test_no_size_of_gradient_makes_nan_or_infinity(base: Any, seed: int, sizes: list[float]) -> None:
    params = make_params(dtype=torch.float32)
    gradients = make_gradients(params, tasks=4, steps=2, seed=seed)
    for task, size in zip(gradients, sizes, strict=True):
        task[:] = [[gradient * size for gradient in step] for step in task]
    alphas = run(TAG(params, 1e-3, base, 7), params, gradients)
    assert all(param.isfinite().all() for param in params)
    assert all(((step >= math.exp(-7.001)) & (step <= math.exp(7.001))).all() for step in alphas)


def test_a_direction_that_float32_cannot_square_counts_as_unrelated() -> None:
    params = [torch.zeros(3)]
    tiny, usual = torch.full((3,), 1e-30), torch.ones(3)
    alphas = run(TAG(params, 0.1), params, [[[tiny]], [[usual]], [[tiny]]])
    torch.testing.assert_close(alphas[1], torch.tensor([[1.0, math.exp(-5)]]))
    torch.testing.assert_close(alphas[2], torch.tensor([[1.0, 1.0, math.exp(-5)]]))


@pytest.mark.parametrize("base", BASES)
def test_a_gradient_of_zeros_moves_nothing_and_counts_as_unrelated(base: Any) -> None:
    params = make_params()
    start = params[0].clone()
    gradients = make_gradients(params, tasks=3, steps=2)
    for task in gradients:
        for step in task:
            step[0] = torch.zeros_like(step[0])
    alphas = run(TAG(params, 0.1, base), params, gradients)[-1]
    assert torch.equal(params[0], start)
    torch.testing.assert_close(alphas[0], torch.tensor([1, 1, math.exp(-5)], dtype=torch.float64))
    assert all(param.isfinite().all() for param in params)


def test_a_tensor_without_elements_is_no_trouble() -> None:
    params = [torch.zeros(0, 3), torch.ones(2)]
    run(TAG(params, 0.1), params, make_gradients(params, tasks=3, steps=2))
    assert params[1].isfinite().all()


def test_tensors_of_any_memory_layout_follow_the_same_update() -> None:
    params, gradients = make_params([(2, 3, 4, 4)]), make_gradients(make_params([(2, 3, 4, 4)]), tasks=3, steps=2)
    others = [params[0].to(memory_format=torch.channels_last, copy=True)]
    run(TAG(params, 0.1), params, gradients)
    turned = [[[step[0].to(memory_format=torch.channels_last)] for step in task] for task in gradients]
    run(TAG(others, 0.1), others, turned)
    assert others[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(params, others)


def test_groups_have_their_own_lr_and_b() -> None:
    params = make_params()
    plain = [PlainTAG(params[0], 0.1, "rmsprop", 5), PlainTAG(params[1], 0.01, "rmsprop", 2)]
    groups: list[dict[str, Any]] = [{"params": [params[0]]}, {"params": [params[1]], "lr": 0.01, "b": 2.0}]
    gradients = make_gradients(params[:2], tasks=3, steps=2)
    alphas = run(TAG(groups, 0.1), params[:2], gradients)[-1]
    for row, (one, param) in enumerate(zip(plain, params[:2], strict=True)):
        for task in gradients:
            one.begin_task()
            wanted = [one.step(step[row]) for step in task]
        torch.testing.assert_close(param, one.theta)
        torch.testing.assert_close(alphas[row], torch.tensor(wanted[-1], dtype=torch.float64))


def test_a_task_without_gradients_leaves_a_tensor_no_moments_there() -> None:
    params = make_params()
    plain = PlainTAG(params[0], 0.1, "adam", 5)
    frozen = params[1].clone()
    optimizer = TAG(params[:3], 0.1, "adam")
    for number, task in enumerate(make_gradients(params[:3], tasks=4, steps=2)):
        optimizer.begin_task()
        plain.begin_task()
        used = number in (1, 3)
        for step in task:
            feed(optimizer, params[:3], [step[0] if used else None, None, step[2]])
            if used:
                wanted = plain.step(step[0])
                torch.testing.assert_close(optimizer.alphas[0], torch.tensor(wanted, dtype=torch.float64))
            assert optimizer.alphas.isnan().all(dim=1).tolist() == [not used, True, False]
    torch.testing.assert_close(params[0], plain.theta)
    assert torch.equal(params[1], frozen)


@pytest.mark.parametrize("base", BASES)
def test_a_bfloat16_parameter_takes_the_float32_step_rounded(base: Any) -> None:
    params = make_params(dtype=torch.bfloat16)
    gradients = make_gradients(params, tasks=2, steps=2)
    wide = [param.float() for param in params]
    optimizer, wider = TAG(params, 0.01, base), TAG(wide, 0.01, base)
    for task in gradients:
        optimizer.begin_task()
        wider.begin_task()
        for step in task:
            for param, other in zip(params, wide, strict=True):
                other.copy_(param)
            feed(wider, wide, [gradient.float() for gradient in step])
            feed(optimizer, params, step)
            for param, other in zip(params, wide, strict=True):  # 2^-8 is the unit in the last place of 1
                torch.testing.assert_close(param.float(), other, rtol=2**-8, atol=1e-6)
    assert torch.equal(optimizer.alphas, wider.alphas)


def test_maximize_ascends() -> None:
    params, others = make_params(), make_params()
    gradients = make_gradients(params, tasks=3, steps=2)
    run(TAG(params, 0.1, maximize=True), params, gradients)
    run(TAG(others, 0.1), others, [[[-gradient for gradient in step] for step in task] for task in gradients])
    assert all(torch.equal(param, other) for param, other in zip(params, others, strict=True))


@pytest.mark.parametrize("base", BASES)
def test_a_tensor_as_learning_rate_equals_a_float(base: Any) -> None:
    params, others = make_params(), make_params()
    gradients = make_gradients(params, tasks=3, steps=2)
    run(TAG(params, 0.125, base), params, gradients)
    run(TAG(others, torch.tensor(0.125), base), others, gradients)
    torch.testing.assert_close(params, others, rtol=1e-12, atol=1e-14)


def test_a_scheduler_sets_the_learning_rate() -> None:
    params = [torch.zeros(3)]
    optimizer = TAG(params, 0.5, "adagrad")
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.begin_task()
    feed(optimizer, params, [torch.ones(3)])
    scheduler.step()
    optimizer.begin_task()
    before = params[0].clone()
    feed(optimizer, params, [torch.ones(3)])
    # The same direction again: both tasks' second moments (1 and 1) weigh exp(-5).
    torch.testing.assert_close(params[0], before - 0.25 / math.sqrt(2 * math.exp(-5)))


def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned() -> None:
    param = nn.Parameter(torch.tensor([2.0]))
    optimizer = TAG([param], 0.1)
    optimizer.begin_task()

    def closure() -> float:
        optimizer.zero_grad()
        loss = (param**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    assert optimizer.step(closure) == 4.0
    torch.testing.assert_close(param.detach(), torch.tensor([2.0 - 0.1 * 4 / math.sqrt(0.01 * 16)]))


def test_bfloat16_banks_stay_near_the_float32_step() -> None:
    params, others = ([param.zero_() for param in make_params(((300, 300), (17,)), torch.float32)] for _ in range(2))
    gradients = make_gradients(params, tasks=4, steps=3)
    wide = run(TAG(params, 1.0), params, gradients)
    narrow = run(TAG(others, 1.0, bank_dtype=torch.bfloat16), others, gradients)
    torch.testing.assert_close(wide, narrow, rtol=0.02, atol=0)
    for param, other in zip(params, others, strict=True):
        assert 0 < (param - other).norm() < 0.01 * param.norm()


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that reach PyTorch's kernels."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("base", BASES)
def test_a_step_is_as_many_operations_after_nine_tasks_as_after_one(base: Any) -> None:
    counts = []
    for tasks in (2, 10):
        params = make_params()
        optimizer = TAG(params, 0.1, base)
        run(optimizer, params, make_gradients(params, tasks, steps=1))
        with Operations() as operations:
            optimizer.step()
        counts.append(operations.counts)
    assert counts[0] == counts[1]
    assert counts[0]["aten.addmv_.default"] == 2 * len(params)


@pytest.mark.parametrize("base", BASES)
def test_no_step_reads_a_number_back_to_the_host(base: Any) -> None:
    """Tensors on the meta device have no values: reading one raises an error."""
    params = [torch.empty(shape, device="meta") for shape in ((3, 4), (5,))]
    gradients = [[[torch.empty_like(param) for param in params]] * 2] * 3
    alphas = run(TAG(params, torch.tensor(0.1), base), params, gradients)
    assert alphas[-1].shape == (2, 3)
    with pytest.raises(RuntimeError, match="meta"):
        float(alphas[-1][0, 0])
