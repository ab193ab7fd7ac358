"""GEM: the projection, and what it is a projection of."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear, minimize
from torch import Tensor

from pipeline.strategies.batch import cross_entropy
from pipeline.strategies.gem import GEM, RIDGE, multipliers, project
from tests.strategies import OWN, PLANS, SHARED, batch_of, gradients, network, random_task, strategy

seeds = st.integers(0, 2**32 - 1)
both = pytest.mark.parametrize("classes", [OWN, SHARED], ids=["own", "shared"])


def problem(seed: int, tasks: int, parameters: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """A gradient in conflict with some of the references, and the references, which are alike."""
    generator = np.random.default_rng(seed)
    gradient = generator.standard_normal(parameters)
    shared = generator.standard_normal(parameters) - 0.5 * gradient
    return gradient, shared + generator.standard_normal((tasks, parameters))


def projected(gradient: np.ndarray, references: np.ndarray, margin: float) -> np.ndarray | None:
    found = project(torch.from_numpy(gradient), torch.from_numpy(references), margin)
    return None if found is None else found.numpy()


@settings(max_examples=60)
@given(seeds, st.integers(1, 8), st.sampled_from([0.0, 0.5, 2.0]))
def test_the_multipliers_are_those_of_a_general_solver(seed: int, tasks: int, margin: float) -> None:
    gradient, references = problem(seed, tasks)
    gram, products = references @ references.T, references @ gradient
    matrix = gram + RIDGE * np.eye(tasks)

    def dual(v: np.ndarray) -> float:
        return float(v @ matrix @ v / 2 + products @ v)

    found = multipliers(gram, products, margin)
    assert (found >= margin).all()
    general = minimize(
        dual,
        np.full(tasks, margin + 1.0),
        jac=lambda v: matrix @ v + products,
        bounds=[(margin, None)] * tasks,
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert dual(found) <= general.fun + 1e-9 * (1 + abs(general.fun))
    np.testing.assert_allclose(found, general.x, rtol=1e-4, atol=1e-4)
    lower = np.linalg.cholesky(matrix)
    bounded = lsq_linear(lower.T, -np.linalg.solve(lower, products), bounds=(margin, np.inf), tol=1e-14)
    np.testing.assert_allclose(found, bounded.x, rtol=1e-4, atol=1e-4)


@settings(max_examples=60)
@given(seeds, st.integers(1, 8))
def test_without_margin_it_is_the_nearest_gradient_without_conflict(seed: int, tasks: int) -> None:
    gradient, references = problem(seed, tasks)
    found = projected(gradient, references, 0.0)
    if found is None:
        assert (references @ gradient >= 0).all()
        return
    nearest = minimize(
        lambda x: float((x - gradient) @ (x - gradient)),
        gradient,
        jac=lambda x: 2 * (x - gradient),
        constraints={"type": "ineq", "fun": lambda x: references @ x, "jac": lambda x: references},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    # The ridge lets a product be a little below zero: by 1e-3 of the multiplier.
    np.testing.assert_allclose(found, nearest.x, atol=5e-3)
    assert (references @ found >= -1e-2).all()


@settings(max_examples=60)
@given(seeds, st.integers(1, 8))
def test_a_margin_removes_the_conflict_with_every_task_and_moves_further(seed: int, tasks: int) -> None:
    gradient, references = problem(seed, tasks)
    plain, moved = (projected(gradient, references, margin) for margin in (0.0, 0.5))
    if plain is None or moved is None:
        assert plain is moved is None
        return
    assert (references @ moved >= -1e-2).all()
    assert np.linalg.norm(moved - gradient) >= np.linalg.norm(plain - gradient) - 1e-9


def test_the_projection_by_hand() -> None:
    """One reference (1, 0) and the gradient (-3, 2): v = max(margin, 3 / 1.001)."""
    gradient, references = torch.tensor([-3.0, 2.0]), torch.tensor([[1.0, 0.0]])
    for margin, v in ((0.0, 3 / 1.001), (0.5, 3 / 1.001), (4.0, 4.0)):
        found = project(gradient, references, margin)
        assert found is not None
        torch.testing.assert_close(found, torch.tensor([-3.0 + v, 2.0]))


def test_a_gradient_without_conflict_or_without_a_number_is_left_alone() -> None:
    references = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert project(torch.tensor([1.0, 0.0]), references, 0.5) is None
    assert project(torch.tensor([float("nan"), -1.0]), references, 0.5) is None
    assert project(torch.tensor([float("-inf"), -1.0]), references, 0.5) is None


def test_references_that_are_equal_are_no_trouble() -> None:
    references = torch.tensor([[1.0, 1.0], [1.0, 1.0], [2.0, 2.0]])
    found = project(torch.tensor([-1.0, -2.0]), references, 0.0)
    assert found is not None
    torch.testing.assert_close(found, torch.tensor([0.5, -0.5]), rtol=0, atol=1e-3)


def test_long_references_nearly_in_one_plane_are_no_trouble() -> None:
    """Rounding to float32 makes their Gram matrix indefinite by more than the ridge."""
    generator = torch.Generator().manual_seed(0)
    refused = 0
    for _ in range(20):
        plane = torch.randn(2, 200, generator=generator)
        references = torch.nn.functional.normalize(torch.randn(8, 2, generator=generator) @ plane, dim=1) * 1000
        gradient = torch.randn(200, generator=generator)
        gram = (references @ references.T).double().numpy()
        refused += np.linalg.eigvalsh((gram + gram.T) / 2).min() < -RIDGE
        found = project(gradient, references, 0.0)
        assert found is None or bool(torch.isfinite(found).all())
        if found is not None:
            assert float((references @ found).min()) > -1e-3 * 1000 * float(gradient.norm())
    assert refused > 0  # otherwise this tests nothing


def gem(tasks: int, classes: list[list[int]] = OWN, margin: float = 0.5) -> GEM:
    """GEM in task `tasks` (from 0), before its first step."""
    own, model = strategy(PLANS["gem"].model_copy(update={"margin": margin}), classes), network(classes)
    assert isinstance(own, GEM)
    for number in range(tasks):
        task = random_task(number, classes=classes)
        own.begin_task(task)
        for first in range(0, len(task), 4):
            gradients(own, model, batch_of(task, first))
        own.end_task(model, task)
    own.begin_task(random_task(tasks, classes=classes))
    return own


def whole(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


@both
@pytest.mark.parametrize("margin", [0.5, 2.0])
def test_the_references_are_the_gradients_of_the_last_examples_of_each_class_of_each_earlier_task(
    classes: list[list[int]], margin: float
) -> None:
    own, model = gem(2, classes, margin), network(classes, seed=1)
    assert [task for task, _ in own.slots] == [0, 1]
    for number, slots in own.slots:
        task, held = random_task(number, classes=classes), own.memory.at(slots)
        for label in classes[number]:
            last = task.images[task.labels == label][-2:]
            kept = held.images[held.labels == label]
            assert sorted(last.flatten(1).tolist()) == sorted(kept.flatten(1).tolist())
    references = torch.stack(
        [
            whole(
                list(
                    torch.autograd.grad(
                        cross_entropy(model, own.memory.at(slots)._replace(task=number)), list(model.parameters())
                    )
                )
            )
            for number, slots in own.slots
        ]
    )
    seen = set()
    for seed in range(30):
        batch = batch_of(random_task(2, classes=classes, seed=seed))
        plain = whole(list(torch.autograd.grad(cross_entropy(model, batch), list(model.parameters()))))
        wanted = project(plain, references, margin)
        seen.add(wanted is None)
        found = whole(gradients(copy.deepcopy(own), model, batch))
        torch.testing.assert_close(found, plain if wanted is None else wanted)
    assert seen == {True, False}


@both
def test_on_the_first_task_gem_is_naive(classes: list[list[int]]) -> None:
    model, batch = network(classes), batch_of(random_task(0, classes=classes))
    plain = gradients(strategy(PLANS["naive"], classes), model, batch)
    found = gradients(gem(0, classes), model, batch)
    assert all(torch.equal(*pair) for pair in zip(found, plain, strict=True))


def test_in_any_order_and_on_a_second_visit_the_references_are_of_all_other_tasks_seen() -> None:
    own, model = strategy(PLANS["gem"]), network()
    assert isinstance(own, GEM)
    for number, others in ((2, []), (0, [2]), (2, [0]), (1, [0, 2])):
        own.begin_task(random_task(number))
        assert [task for task, _ in own.slots] == others
        gradients(own, model, batch_of(random_task(number)))
