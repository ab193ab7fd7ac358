"""A-GEM: the projection, and what it is a projection of."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from torch import Tensor, nn

from pipeline.strategies import Batch
from pipeline.strategies.agem import AGEM, project
from pipeline.strategies.batch import cross_entropy
from tests.strategies import OWN, PLANS, SHARED, batch_of, gradients, network, random_task, strategy

properties = settings(max_examples=100)
vectors = st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=3, max_size=12)


def tensors(values: np.ndarray) -> list[Tensor]:
    """A vector as parameter tensors: a column, a row and a number."""
    whole = torch.from_numpy(values)
    return [whole[:1, None], whole[None, 1:-1], whole[-1]]


def vector(parts: list[Tensor]) -> np.ndarray:
    """Back again."""
    return torch.cat([part.flatten() for part in parts]).numpy()


def projected(pairs: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient, reference, and the projected gradient."""
    gradient, reference = (np.array(values) for values in zip(*pairs, strict=True))
    # Squares of smaller ones leave float64; `project` then treats them as zero.
    assume(np.linalg.norm(reference) > 1e-100)
    return gradient, reference, vector(project(tensors(gradient), tensors(reference)))


@properties
@given(vectors)
def test_the_product_with_the_reference_is_never_negative(pairs: list[tuple[float, float]]) -> None:
    gradient, reference, found = projected(pairs)
    rounding = 1e-12 * np.abs(gradient).max() * np.abs(reference).max()  # a norm of tiny numbers would be 0
    assert found @ reference >= -rounding


@properties
@given(vectors)
def test_without_conflict_the_gradient_is_the_plain_one(pairs: list[tuple[float, float]]) -> None:
    gradient, reference = (np.array(values) for values in zip(*pairs, strict=True))
    if gradient @ reference < 0:
        reference = -reference
    found = vector(project(tensors(gradient), tensors(reference)))
    rounding = 1e-12 * float(np.linalg.norm(gradient))
    if gradient @ reference > rounding * np.linalg.norm(reference):
        assert np.array_equal(found, gradient)
    else:  # a sum in another order may have the other sign
        np.testing.assert_allclose(found, gradient, rtol=0, atol=rounding)


@properties
@given(vectors, st.integers(0, 2**32 - 1))
def test_no_feasible_gradient_changes_less(pairs: list[tuple[float, float]], seed: int) -> None:
    gradient, reference, found = projected(pairs)
    change = np.linalg.norm(found - gradient)
    generator = np.random.default_rng(seed)
    spread = generator.choice([1e-3, 1.0, 10.0], (200, 1)) * (change + 1e-6)
    for centre in (gradient, found):
        others = centre + spread * generator.standard_normal((200, len(gradient)))
        feasible = others[others @ reference >= 0]
        if len(feasible):
            assert np.linalg.norm(feasible - gradient, axis=1).min() >= change * (1 - 1e-9)


@properties
@given(vectors)
def test_the_projection_is_the_dual_problems_solution(pairs: list[tuple[float, float]]) -> None:
    """min |x - g|^2 with x . r >= 0 has x = g + v r, where v >= 0 minimises |g + v r|^2 (Karush, Kuhn and Tucker)."""
    gradient, reference, found = projected(pairs)
    norm = np.linalg.norm(reference)
    (factor,), _ = nnls((reference / norm)[:, None], -gradient)
    np.testing.assert_allclose(found, gradient + factor * reference / norm, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 1e-30])
def test_a_reference_of_zeros_leaves_the_gradient_alone(dtype: torch.dtype, size: float) -> None:
    gradient = [torch.tensor([1.0, -2.0], dtype=dtype), torch.tensor(3.0, dtype=dtype)]
    reference = [torch.full((2,), size, dtype=dtype), torch.tensor(-size, dtype=dtype)]
    found = project(gradient, reference)
    if size == 0:
        assert all(torch.equal(*pair) for pair in zip(found, gradient, strict=True))
    assert all(tensor.isfinite().all() for tensor in found)
    assert all(tensor.dtype == dtype for tensor in found)


def agem(tasks: int, classes: list[list[int]], plan: str = "agem") -> AGEM:
    """A-GEM in task `tasks` (from 0), before its first step."""
    own, model = strategy(PLANS[plan], classes), network(classes)
    assert isinstance(own, AGEM)
    for number in range(tasks):
        task = random_task(number, classes=classes)
        own.begin_task(task)
        for first in range(0, len(task), 4):
            gradients(own, model, batch_of(task, first))
        own.end_task(model, task)
    own.begin_task(random_task(tasks, classes=classes))
    return own


@pytest.mark.parametrize("classes", [OWN, SHARED], ids=["own", "shared"])
@pytest.mark.parametrize("conflict", [False, True])
@pytest.mark.parametrize(("plan", "count"), [("agem", 4), ("agem-memory-batch", 3)])
def test_the_projected_gradient_is_left_for_the_update(
    classes: list[list[int]], conflict: bool, plan: str, count: int
) -> None:
    own, model = agem(1, classes, plan), network(classes, seed=1)
    sample = copy.deepcopy(own).memory.sample(count)
    reference = list(torch.autograd.grad(cross_entropy(model, sample), list(model.parameters())))
    batch = None
    for seed in range(100):
        batch = batch_of(random_task(1, classes=classes, seed=seed))
        plain = list(torch.autograd.grad(cross_entropy(model, batch), list(model.parameters())))
        if (float(vector(plain) @ vector(reference)) < 0) == conflict:
            break
    else:
        pytest.fail("no such batch")
    found = gradients(own, model, batch)
    torch.testing.assert_close(found, project(plain, reference))
    assert all(torch.equal(*pair) for pair in zip(found, plain, strict=True)) != conflict
    assert vector(found) @ vector(reference) >= -1e-6


@pytest.mark.parametrize("classes", [OWN, SHARED], ids=["own", "shared"])
def test_only_examples_of_earlier_tasks_make_the_reference(
    classes: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, model = agem(2, classes), network(classes)
    seen: list[Tensor] = []
    forward = type(model).forward

    def watched(self: object, images: Tensor, task: int | Tensor) -> Tensor:
        if isinstance(task, Tensor):
            seen.append(task)
        return forward(model, images, task)

    monkeypatch.setattr(type(model), "forward", watched)
    task = random_task(2, classes=classes)
    for first in range(0, len(task), 4):
        own.backward(model, batch_of(task, first))
        model.zero_grad()
    assert [len(tasks) for tasks in seen] == [4, 4, 4]  # as large as the batch
    assert set(torch.cat(seen).tolist()) == {0, 1}


def test_on_the_first_task_agem_is_naive() -> None:
    model, batch = network(), batch_of(random_task(0))
    plain = gradients(strategy(PLANS["naive"]), model, batch)
    assert all(torch.equal(*pair) for pair in zip(gradients(agem(0, OWN), model, batch), plain, strict=True))


@pytest.mark.parametrize("task", [0, 1])
def test_the_extra_forward_pass_counts_the_batch_twice_in_the_running_statistics(task: int) -> None:
    plain, extra = agem(task, OWN), strategy(PLANS["agem-extra-forward"])
    extra.load_state_dict(copy.deepcopy(plain.state_dict()))
    extra.begin_task(random_task(task))
    model, batch = network(normalised=True), batch_of(random_task(task))
    next(module for module in model.modules() if isinstance(module, nn.Dropout)).p = 0.0  # it would draw other masks
    start = copy.deepcopy(model).train()
    asked = copy.deepcopy(start)
    asked(batch.images, batch.task)  # the pass whose result TAG's code throws away
    plain.backward(asked, batch)
    found = copy.deepcopy(start)
    extra.backward(found, batch)
    torch.testing.assert_close(list(found.buffers()), list(asked.buffers()))
    gradients = [[parameter.grad for parameter in model.parameters()] for model in (found, asked)]
    torch.testing.assert_close(*gradients)
    without = copy.deepcopy(start)
    agem(task, OWN).backward(without, batch)
    means = [next(buffer for name, buffer in m.named_buffers() if "running_mean" in name) for m in (found, without)]
    assert (means[0] - means[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("gradient", "reference", "wanted"),
    [
        ([1.0, None], [-1.0, 3.0], [0.9, 0.3]),  # r . r = 10, and g . r a tenth of it
        ([1.0, None], [1.0, 3.0], [1.0, None]),  # no conflict
        ([1.0, 2.0], [-1.0, None], [0.0, 2.0]),
        ([1.0, None], [-1.0, None], [0.0, None]),
        ([1.0, None], [None, 1.0], [1.0, None]),
    ],
)
def test_a_gradient_that_is_missing_on_one_side_is_zero(
    gradient: list[float | None],
    reference: list[float | None],
    wanted: list[float | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As of a module that a task has to itself."""
    model = nn.ParameterList([torch.zeros(1), torch.zeros(1)])

    def cross_entropy(model: nn.ParameterList, batch: Batch) -> Tensor:
        slopes = reference if isinstance(batch.task, Tensor) else gradient
        return torch.stack([s * p for s, p in zip(slopes, model, strict=True) if s is not None]).sum()

    own = agem(1, OWN)
    monkeypatch.setattr("pipeline.strategies.agem.cross_entropy", cross_entropy)
    own.backward(model, batch_of(random_task(1)))  # type: ignore[arg-type]
    found = [None if parameter.grad is None else parameter.grad.item() for parameter in model]
    assert found == [None if value is None else pytest.approx(value) for value in wanted]


def test_in_any_order_and_on_a_second_visit_the_reference_is_of_all_other_tasks_seen() -> None:
    own, model = strategy(PLANS["agem"]), network(seed=1)
    assert isinstance(own, AGEM)
    parameters, changed = list(model.parameters()), 0
    for visit, number in enumerate((2, 0, 2, 1, 0, 2)):
        own.begin_task(random_task(number))
        for seed in range(10):
            batch = batch_of(random_task(number, seed=seed))
            wanted = plain = list(torch.autograd.grad(cross_entropy(model, batch), parameters))
            if visit:
                sample = copy.deepcopy(own).recall()
                assert isinstance(sample.task, Tensor)
                assert number not in sample.task
                wanted = project(plain, list(torch.autograd.grad(cross_entropy(model, sample), parameters)))
            changed += not all(torch.equal(*pair) for pair in zip(plain, wanted, strict=True)) and number == 2
            torch.testing.assert_close(gradients(own, model, batch), wanted)
    assert changed  # on a second visit
