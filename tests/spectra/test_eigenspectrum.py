"""What the eigenspectrum stage computes, against the exact Hessian of a small network on real digits."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.config.networks import Mlp
from pipeline.config.sections import Eigenspectrum
from pipeline.curvature import EigenResult
from pipeline.curvature.batches import BatchOperator
from pipeline.handover.spectra import Movement
from pipeline.models import TaskModel, build_model, load_task, outputs_of_tasks
from pipeline.spectra.eigenspectrum import Examiner
from pipeline.streams.reader import Tasks
from pipeline.support.scratch import Scratch
from pipeline.training.evaluation import evaluate
from tests.conftest import rotated_digits

SETTINGS: dict[str, Any] = {"k": 2, "tolerance": 1e-3, "max_products": 300, "images": "test", "seed": 0}


def examiner(tasks: Tasks, tell: Callable[[str], None] = lambda text: None, **changes: object) -> Examiner:
    """Of a network whose weights after each task are seeded random ones."""
    model = build_model(Mlp(name="mlp", hidden=[4], outputs="task"), tasks.image_shape, tasks.classes).eval()
    states: list[dict[str, Tensor]] = []
    for task in range(len(tasks)):
        torch.manual_seed(task)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        states.append({name: value.clone() for name, value in model.state_dict().items()})

    def restore(task: int) -> None:
        model.load_state_dict(states[task])

    settings = Eigenspectrum.model_validate(SETTINGS | changes)
    return Examiner(model, tasks, "task", settings, restore, 1 << 30, tell)


@pytest.mark.parametrize("matrix", ["hessian", "gauss-newton"])
def test_the_graphs_of_all_operators_together_keep_to_the_bound(
    two_tasks: Tasks, monkeypatch: pytest.MonkeyPatch, matrix: str
) -> None:
    alive: weakref.WeakSet[BatchOperator[Any]] = weakref.WeakSet()
    together = []
    retain = BatchOperator._retain

    def retained(operator: BatchOperator[Any]) -> None:
        alive.add(operator)
        retain(operator)
        together.append(sum(operator.bytes_retained for operator in alive))

    monkeypatch.setattr(BatchOperator, "_retain", retained)
    examined = examiner(
        two_tasks, matrix=matrix, polish=True, blocks=True, prediction=True, end_of_stream=True, density_probes=2
    )
    examined.memory = 300_000
    found = examined.run()
    assert len(found.entries) == len(found.end_of_stream) == 2
    assert len(together) > 20
    assert 100_000 < max(together) <= 300_000


def exact_hessian(model: TaskModel, images: Tensor, labels: Tensor, task: int) -> Tensor:
    """In float64."""
    names = [name for name, _ in model.named_parameters()]
    sizes = [parameter.numel() for parameter in model.parameters()]
    shapes = [parameter.shape for parameter in model.parameters()]

    def loss(flat: Tensor) -> Tensor:
        pieces = [piece.view(shape) for piece, shape in zip(torch.split(flat, sizes), shapes, strict=True)]
        state = dict(zip(names, pieces, strict=True))
        return F.cross_entropy(torch.func.functional_call(model, state, (images.double() / 255, task)), labels)

    flat = torch.nn.utils.parameters_to_vector(model.parameters()).detach().double()
    hessian: Tensor = torch.func.hessian(loss)(flat)
    return hessian


def largest(matrix: Tensor, k: int) -> list[float]:
    values = torch.linalg.eigvalsh(matrix)
    chosen: list[float] = values[values.abs().argsort(descending=True)[:k]].tolist()
    return chosen


@pytest.mark.parametrize("solver", ["power", "lanczos"])
@pytest.mark.parametrize("images", ["test", "train"])
def test_the_eigenvalues_are_those_of_each_tasks_loss_at_its_own_weights(
    two_tasks: Tasks, solver: str, images: str
) -> None:
    examined = examiner(two_tasks, solver=solver, images=images)
    found = examined.run()
    assert [entry["task"] for entry in found.entries] == [1, 2]
    outputs = outputs_of_tasks(two_tasks.classes, "task")
    for number, entry in enumerate(found.entries):
        assert all(entry["converged"])
        examined.restore(number)
        task = load_task(two_tasks, number, images, outputs, torch.device("cpu"))
        exact = exact_hessian(examined.model, task.images, task.labels, number)
        assert entry["eigenvalues"] == pytest.approx(largest(exact, 2), rel=1e-3)
        assert entry["examples"] == len(task)
        assert entry["parameters"] == len(exact)


def test_the_movement_is_measured_against_the_eigenvectors(two_tasks: Tasks) -> None:
    examined = examiner(two_tasks, save_vectors=True)
    found = examined.run()
    moved = (examined.weights(1) - examined.weights(0)).double()
    (entry,) = found.entries[0]["movement"]
    assert entry["task"] == 2
    assert entry["distance"] == pytest.approx(float(moved.norm()), rel=1e-4)
    assert found.distances == pytest.approx([0.0, float(moved.norm())], rel=1e-4)
    inside = found.vectors[0].double().T @ moved
    assert entry["overlap"] == pytest.approx(float((inside @ inside) / (moved @ moved)), rel=1e-3)
    assert 0 < entry["overlap"] < 1
    top = max(found.entries[0]["eigenvalues"])
    assert entry["lambda_distance_squared"] == pytest.approx(top * float(moved @ moved), rel=1e-3)
    assert "movement" not in found.entries[1]
    assert [tuple(vectors.shape) for vectors in found.vectors] == [(found.entries[0]["parameters"], 2)] * 2


def test_each_movement_is_from_the_weights_right_after_the_task(tmp_path: Path) -> None:
    examined = examiner(rotated_digits(tmp_path, 3), prediction=True)
    found = examined.run()
    weights = [examined.weights(number).double() for number in range(3)]
    gone = {pair: float((weights[pair[1]] - weights[pair[0]]).norm()) for pair in ((0, 1), (0, 2), (1, 2))}
    assert found.distances == pytest.approx([0.0, gone[0, 1], gone[0, 2]], rel=1e-4)
    moved = {(number, entry["task"] - 1): entry for number in (0, 1) for entry in found.entries[number]["movement"]}
    assert {pair: entry["distance"] for pair, entry in moved.items()} == pytest.approx(gone, rel=1e-4)
    for (start, end), entry in moved.items():
        examples = examined.examples(start)
        for number, at in ((start, 0), (end, -1)):
            examined.restore(number)
            assert entry["line_loss"][at] == pytest.approx(evaluate(examined.model, examples)[1], rel=1e-4)


def test_the_bound_on_forgetting_takes_the_largest_eigenvalue_with_its_sign(two_tasks: Tasks) -> None:
    examined = examiner(two_tasks)
    examined.restore(0)
    examples = examined.examples(0)
    operator = examined.operator(examined.model, examples)
    vectors = torch.eye(operator.shape[0])[:, :2]
    result = EigenResult(torch.tensor([-9.0, 2.0]), vectors, torch.zeros(2), torch.tensor([True, True]), 2)
    (moved,) = examined.movement(0, result, operator, examples, "task 1")
    assert moved["lambda_distance_squared"] > 0


def test_there_is_no_bound_where_only_negative_eigenvalues_were_found(two_tasks: Tasks) -> None:
    examined = examiner(two_tasks)
    examined.restore(0)
    examples = examined.examples(0)
    operator = examined.operator(examined.model, examples)
    vectors = torch.eye(operator.shape[0])[:, :2]
    result = EigenResult(torch.tensor([-9.0, -2.0]), vectors, torch.zeros(2), torch.tensor([True, True]), 2)
    (moved,) = examined.movement(0, result, operator, examples, "task 1")
    assert moved["lambda_distance_squared"] is None
    assert "lambda_distance_squared" not in Movement.model_validate(moved).plain()


def test_at_the_end_of_the_stream_the_last_weights_count(two_tasks: Tasks) -> None:
    examined = examiner(two_tasks, end_of_stream=True)
    told: list[int] = []
    found = examined.run(lambda: told.append(1))
    assert len(told) == examined.steps() == 4
    assert found.end_of_stream[1]["eigenvalues"] == found.entries[1]["eigenvalues"]
    assert found.end_of_stream[0]["eigenvalues"] != found.entries[0]["eigenvalues"]
    examined.restore(1)
    task = load_task(two_tasks, 0, "test", examined.outputs, torch.device("cpu"))
    exact = exact_hessian(examined.model, task.images, task.labels, 0)
    assert found.end_of_stream[0]["eigenvalues"] == pytest.approx(largest(exact, 2), rel=1e-3)


def test_a_polish_reaches_what_float32_cannot(two_tasks: Tasks) -> None:
    plain, polished = (examiner(two_tasks, polish=polish, tolerance=1e-9).run() for polish in (False, True))
    assert not all(plain.entries[0]["converged"])
    assert all(polished.entries[0]["converged"])
    assert max(polished.entries[0]["relative_residuals"]) <= 1e-9
    assert plain.entries[0]["eigenvalues"] == pytest.approx(polished.entries[0]["eigenvalues"], rel=1e-3)


def test_the_products_of_a_polish_are_those_of_both_searches(two_tasks: Tasks) -> None:
    before = examiner(two_tasks, tolerance=1e-4).run()
    polished = examiner(two_tasks, tolerance=1e-9, polish=True).run()
    for first, both in zip(before.entries, polished.entries, strict=True):
        assert both["products"] >= first["products"] + 2  # each pair is looked at once more at least


def test_a_subset_is_seeded_and_of_the_size_asked_for(two_tasks: Tasks) -> None:
    first, again, other = (examiner(two_tasks, examples=50, seed=seed).examples(0) for seed in (0, 0, 1))
    assert len(first) == 50
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert len({image.numpy().tobytes() for image in first.images}) == 50
    assert len(examiner(two_tasks, examples=10**6).examples(0)) == 445


def test_each_task_has_a_subset_of_its_own_in_the_order_of_the_labels(two_tasks: Tasks) -> None:
    examined, whole = examiner(two_tasks, examples=50), examiner(two_tasks)
    places = []
    for task in range(2):
        every = [image.numpy().tobytes() for image in whole.examples(task).images]
        places.append([every.index(image.numpy().tobytes()) for image in examined.examples(task).images])
        assert places[-1] == sorted(places[-1])
    assert places[0] != places[1]


def test_the_published_procedure_and_the_density_stand_beside_it(two_tasks: Tasks) -> None:
    told: list[str] = []
    entry = (
        examiner(two_tasks, told.append, published=True, density_probes=2, density_steps=5, end_of_stream=True)
        .run()
        .entries[0]
    )
    assert len(entry["published"]["eigenvalues"]) == len(entry["published"]["relative_residuals"]) == 2
    assert entry["published"]["products"] <= 2 * 18
    assert [len(row) for row in entry["density"]["nodes"]] == [5, 5]
    assert [sum(row) for row in entry["density"]["weights"]] == pytest.approx([1, 1], rel=1e-3)
    for part in ("task 1, pair 1, residual", "task 2, published", "task 1, density, product 10", "task 2 at the end"):
        assert any(part in text for text in told), part


class DiedError(Exception):
    """Stands for the end of the process."""


def test_an_examination_that_dies_goes_on_with_the_next_task(
    two_tasks: Tasks, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fresh() -> Examiner:
        return examiner(two_tasks, end_of_stream=True, save_vectors=True, density_probes=1, density_steps=4)

    whole = fresh().run()
    for lives in (1, 2, None):
        left = [lives]

        def done(left: list[int | None] = left) -> None:
            if left[0] == 0:
                raise DiedError
            left[0] = None if left[0] is None else left[0] - 1

        with Scratch(tmp_path / "run", "k", "eigenspectrum") as scratch:
            try:
                found = fresh().run(done, scratch)
            except DiedError:
                continue
    assert capsys.readouterr().err.count("resuming from") == 2
    assert (found.entries, found.end_of_stream, found.distances) == (
        whole.entries,
        whole.end_of_stream,
        whole.distances,
    )
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(found.vectors, whole.vectors, strict=True))
