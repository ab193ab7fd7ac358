"""The quadratic model of a task's loss, the line between two states, and the blocks of single layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pipeline.curvature import DenseOperator, HessianOperator
from pipeline.models import TaskModel, TaskTensors, load_task
from pipeline.spectra.prediction import POINTS, layers, line, state_of, terms
from pipeline.streams.reader import Tasks
from pipeline.training.evaluation import evaluate
from tests.spectra.test_eigenspectrum import exact_hessian, examiner, largest


def test_of_a_quadratic_loss_the_prediction_is_exact() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b, w = (torch.randn(*size, generator=draw, dtype=torch.float64) for size in ((6, 6), (6,), (6,)))
    a = a + a.T

    def loss(x: Tensor) -> float:
        return float(x @ a @ x / 2 + b @ x)

    for _ in range(5):
        moved = 3 * torch.randn(6, generator=draw, dtype=torch.float64)
        found = terms(DenseOperator(a), a @ w + b, moved)
        assert sum(found.values()) == pytest.approx(loss(w + moved) - loss(w), rel=1e-4, abs=1e-3)


def test_the_terms_are_those_of_the_exact_gradient_and_hessian(two_tasks: Tasks) -> None:
    examined = examiner(two_tasks, prediction=True)
    found = examined.run()
    (entry,) = found.entries[0]["movement"]
    moved = (examined.weights(1) - examined.weights(0)).double()
    examined.restore(0)
    task = load_task(two_tasks, 0, "test", examined.outputs, torch.device("cpu"))
    exact = exact_hessian(examined.model, task.images, task.labels, 0)
    assert entry["quadratic_term"] == pytest.approx(float(moved @ exact @ moved) / 2, rel=1e-3)
    loss = nn.functional.cross_entropy(examined.model(task.images, 0), task.labels)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(examined.model.parameters()))]).double()
    assert entry["gradient_term"] == pytest.approx(float(gradient @ moved), rel=1e-3)
    assert entry["line_loss"][0] == pytest.approx(loss.item(), rel=1e-4)
    for state, point in ((0, 0), (1, -1)):
        examined.restore(state)
        accuracy, mean = evaluate(examined.model, task)
        assert entry["line_loss"][point] == pytest.approx(mean, rel=1e-4)
        assert entry["line_accuracy"][point] == pytest.approx(accuracy, abs=1e-6)
    assert len(entry["line_loss"]) == len(entry["line_accuracy"]) == POINTS


def test_a_small_step_is_predicted_to_third_order() -> None:
    """Of a smooth network: halving the step takes an eighth of the error."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    images, labels = torch.randn(40, 5, dtype=torch.float64), torch.randint(3, (40,))

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(network(images), labels)

    operator = HessianOperator(loss, network.parameters(), [(images, labels)])
    gradient, before = operator.gradient(), loss(images, labels).item()
    start = nn.utils.parameters_to_vector(network.parameters()).detach().clone()
    direction = torch.randn(len(start), dtype=torch.float64)
    moves = [step * direction for step in (0.04, 0.02, 0.01)]
    predicted = [float(gradient @ moved + moved @ operator.matvec(moved) / 2) for moved in moves]
    errors = []
    for moved, expected in zip(moves, predicted, strict=True):
        nn.utils.vector_to_parameters(start + moved, network.parameters())
        errors.append(loss(images, labels).item() - before - expected)
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(8, rel=0.2)


def test_a_prediction_changes_nothing_else(two_tasks: Tasks) -> None:
    plain, predicted = (examiner(two_tasks, prediction=prediction).run() for prediction in (False, True))
    for mine, theirs in zip(plain.entries, predicted.entries, strict=True):
        for moved in theirs.get("movement", ()):
            for part in ("gradient_term", "quadratic_term", "line_loss", "line_accuracy"):
                del moved[part]
        assert mine == theirs
    assert plain.distances == predicted.distances


class Normed(nn.Module):
    """Batch normalisation in front of a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(6), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(images.flatten(1)))
        return logits


def test_running_statistics_move_along_the_line() -> None:
    torch.manual_seed(0)
    states = []
    model = TaskModel(Normed(), [[0, 1, 2]], "task").eval()
    for step in range(2):
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape) + 0.5)
            elif value.dtype == torch.int64:
                value.fill_(10 * step)
        states.append(state_of(model))
    examples = TaskTensors(0, torch.randn(30, 1, 2, 3), torch.randint(3, (30,)))
    model.load_state_dict(states[0])
    found = line(model, examples, states[0], states[1], evaluate(model, examples))
    for state, point in ((states[0], 0), (states[1], -1)):
        model.load_state_dict(state)
        accuracy, loss = evaluate(model, examples)
        assert found["line_loss"][point] == pytest.approx(loss, rel=1e-4)
        assert found["line_accuracy"][point] == pytest.approx(accuracy, abs=1e-6)
    middle = {
        name: (states[0][name] + states[1][name]) / 2 if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    model.load_state_dict(middle)
    assert found["line_loss"][POINTS // 2] == pytest.approx(evaluate(model, examples)[1], rel=1e-4)


def test_blocks_are_those_of_the_exact_hessian(two_tasks: Tasks) -> None:
    examined = examiner(two_tasks, blocks=True, tolerance=1e-4)
    found = examined.run()
    for number, entry in enumerate(found.entries):
        examined.restore(number)
        task = load_task(two_tasks, number, "test", examined.outputs, torch.device("cpu"))
        exact = exact_hessian(examined.model, task.images, task.labels, number)
        assert [block["layer"] for block in entry["blocks"]] == list(layers(examined.model))
        first = 0
        for block in entry["blocks"]:
            size = block["parameters"]
            part = exact[first : first + size, first : first + size]
            assert block["converged"]
            assert block["eigenvalue"] == pytest.approx(largest(part, 1)[0], rel=1e-3)
            first += size
        assert first == len(exact)


@pytest.mark.parametrize("matrix", ["gauss-newton", "fisher"])
def test_another_matrix_stands_for_the_hessian(two_tasks: Tasks, matrix: str) -> None:
    examined = examiner(two_tasks, matrix=matrix, prediction=True, trace_probes=3, blocks=True)
    entry = examined.run().entries[0]
    examined.restore(0)
    task = load_task(two_tasks, 0, "test", examined.outputs, torch.device("cpu"))
    model = examined.model
    parameters = list(model.parameters())
    logits = model(task.images, 0)
    p = torch.softmax(logits, dim=1).detach()
    n = sum(parameter.numel() for parameter in parameters)
    if matrix == "fisher":
        losses = nn.functional.cross_entropy(logits, task.labels, reduction="none")
        rows = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses]
        gradients = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).double()
        exact = gradients.T @ gradients / len(losses)
    else:
        exact = torch.zeros(n, n, dtype=torch.float64)
        for k in range(len(task)):
            rows = [torch.autograd.grad(logits[k, c], parameters, retain_graph=True) for c in range(10)]
            j = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).double()
            q = p[k, :10].double()
            exact += j.T @ (torch.diag(q) - torch.outer(q, q)) @ j / len(task)
    assert entry["eigenvalues"] == pytest.approx(largest(exact, 2), rel=1e-3)
    moved = (examined.weights(1) - examined.weights(0)).double()
    assert entry["movement"][0]["quadratic_term"] == pytest.approx(float(moved @ exact @ moved) / 2, rel=1e-3)
    assert entry["moments"]["products"] == 3
    assert all(block["eigenvalue"] > 0 for block in entry["blocks"])
