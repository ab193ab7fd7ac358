"""What curvature costs: products, and three solvers on the same Hessian, one CPU thread.

    python -m bench.curvature [--rounds 5] [--resnet] [--figure docs/images/convergence.png]

The MLP 784-100-100-10 after the first task of rotated-mnist (random images where MNIST is not at hand), loss over its 10,000
test images, float32. --resnet: the reduced ResNet-18 after the first task of split-cifar100, 500 test images. --figure:
residual against products, for each solver at several settings. The product is timed against a bare gradient of the same
loss, one after the other in every round; the ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.tag import measure
from pipeline.config import Configuration, read_configuration, resolve_data, resolve_run
from pipeline.curvature import (
    EigenResult,
    HessianOperator,
    deflated_power_iteration,
    lanczos,
    published_power_iteration,
)
from pipeline.curvature.operator import products
from pipeline.datasets.naming import SPLITS
from pipeline.datasets.sources import fetch
from pipeline.models import TaskModel, load_task, outputs_of_tasks
from pipeline.streams.reader import Tasks
from pipeline.streams.writer import write_tasks
from pipeline.support.errors import UserError
from pipeline.training.loop import train

K = 3
GOAL_PRODUCT, GOAL_POWER, GOAL_LANCZOS, GOAL_PRODUCTS = 1.5, 12.0, 4.0, 40
#: Random images that stand for a dataset that is not at hand: train, test.
STAND_IN = (6000, 10000)

Solver = Callable[[HessianOperator], EigenResult]


def trained(benchmark: str, method: str) -> tuple[TaskModel, Tensor, Tensor]:
    """The network after the first task of a benchmark, and that task's test images and labels."""
    project = read_configuration()
    params = project.params.model_copy(update={"benchmark": benchmark})
    configuration = Configuration(params, project.benchmarks, project.methods)
    plan, data = resolve_run(configuration, method), resolve_data(configuration)
    (dataset,) = data.datasets
    try:
        raw = fetch(dataset)
        print(f"{dataset}, {method}, after task 1")
    except UserError as error:
        print(f"random images: {error}")
        shape, classes = ((28, 28), 10) if dataset == "mnist" else ((32, 32, 3), 100)
        draw = torch.Generator().manual_seed(0)
        raw = {
            split: (
                torch.randint(256, (count, *shape), generator=draw, dtype=torch.uint8).numpy(),
                (torch.arange(count) % classes).numpy(),
            )
            for split, count in zip(SPLITS, STAND_IN, strict=True)
        }
    with tempfile.TemporaryDirectory() as folder:
        write_tasks(Path(folder), data, [raw])
        tasks = Tasks.open(folder)
        first = Tasks(tasks.folder, {**tasks.manifest, "tasks": tasks.manifest["tasks"][:1]})
        kept: list[TaskModel] = []
        cpu = torch.device("cpu")
        record = train(plan, first, 1, cpu, after_task=lambda task, model: kept.append(model))
        task = load_task(first, 0, "test", outputs_of_tasks(first.classes, plan.model.outputs), cpu)
        print(f"accuracy {record.accuracy[1][0]:.3f}, {len(task)} test images")
    return kept[0].eval(), task.images, task.labels


def memory() -> float:
    """The most this process ever took, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def report(name: str, seconds: list[float], result: EigenResult, goal: str = "") -> None:
    """A line a solver."""
    values = ", ".join(f"{value:.5g}" for value in result.eigenvalues.tolist())
    residuals = ", ".join(f"{value:.1e}" for value in result.relative_residuals.tolist())
    print(
        f"{name:<10} {statistics.median(seconds):>7.2f} s {result.matvecs:>5} products   lambda {values}   "
        f"relative residuals {residuals}   {goal}"
    )


def timed(solver: Solver, operator: HessianOperator) -> tuple[float, EigenResult]:
    """Seconds, and what it found."""
    start = time.perf_counter()
    result = solver(operator)
    return time.perf_counter() - start, result


def compare(
    operator: HessianOperator, gradient: Callable[[], object], rounds: int, tolerance: float, goals: bool
) -> None:
    """The product against the gradient, then the solvers."""
    v = torch.randn(operator.shape[0], generator=torch.Generator().manual_seed(0))
    pairs = measure([gradient, partial(operator.matvec, v)], rounds)
    ratio = statistics.median(product / gradient for gradient, product in pairs)
    goal = f"(goal: at most {GOAL_PRODUCT})" if goals else ""
    print(f"gradient {statistics.median(g for g, _ in pairs) * 1e3:.1f} ms, product / gradient {ratio:.2f} {goal}")
    solvers: dict[str, tuple[Solver, str]] = {
        "power": (partial(deflated_power_iteration, k=K, tolerance=tolerance), f"(goal: under {GOAL_POWER} s)"),
        "lanczos": (
            partial(lanczos, k=K, tolerance=tolerance),
            f"(goal: under {GOAL_LANCZOS} s, at most {GOAL_PRODUCTS} products)",
        ),
        "published": (partial(published_power_iteration, k=K, tolerance=tolerance), ""),
    }
    for name, (solver, aim) in solvers.items():
        runs = [timed(solver, operator) for _ in range(max(1, rounds // 2))]
        report(name, [seconds for seconds, _ in runs], runs[0][1], aim if goals else "")


def draw_convergence(operator: HessianOperator, path: Path) -> None:
    """The worst relative residual of the three pairs against the products spent, each solver at several settings."""

    from pipeline.figures.style import COLUMN, common_look, new_figure

    tolerances = [10.0**-exponent for exponent in (0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4)]
    ladders: dict[str, list[EigenResult]] = {
        "published (18 steps: ring)": [
            published_power_iteration(operator, K, steps=steps, change=0.0) for steps in (3, 6, 12, 18, 36, 72, 144)
        ],
        "power": [deflated_power_iteration(operator, K, tolerance=tolerance) for tolerance in tolerances],
        "lanczos": [lanczos(operator, K, tolerance=1.0, basis=basis) for basis in (7, 9, 11, 13, 16, 20, 25, 30)],
    }
    exact = lanczos(operator, K, tolerance=1e-5)
    with common_look():
        figure, grid = new_figure(COLUMN, 2.6)
        axes = grid[0, 0]
        # Markers and dashes, too: the first two have the same grey in print.
        looks = (("#7F7F7F", "o", "-"), ("#AA4499", "s", "--"), ("#0072B2", "^", ":"))
        for (name, ladder), (colour, marker, dashes) in zip(ladders.items(), looks, strict=True):
            spent = [result.matvecs for result in ladder]
            worst = [float(_residuals(operator, result).max()) for result in ladder]
            axes.plot(spent, worst, marker=marker, linestyle=dashes, label=name, color=colour)
            if name.startswith("published"):
                axes.plot(spent[3], worst[3], marker="o", markersize=8, fillstyle="none", color=colour)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("Hessian-vector products")
        axes.set_ylabel("worst relative residual of 3 pairs")
        axes.legend()
        figure.savefig(path, dpi=150)
    for name, ladder in ladders.items():
        for result in ladder:
            error = ((result.eigenvalues - exact.eigenvalues) / exact.eigenvalues).abs().max()
            print(f"{name}: {result.matvecs} products, worst error of an eigenvalue {float(error):.1e}")


def _residuals(operator: HessianOperator, result: EigenResult) -> Tensor:
    """Relative residuals with the best lambda for each vector, so that a stale lambda does not count against a solver."""
    images = products(operator, result.eigenvectors)
    values = (result.eigenvectors * images).sum(dim=0)
    relative: Tensor = torch.linalg.vector_norm(images - result.eigenvectors * values, dim=0) / values.abs()
    return relative


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.curvature", description="what curvature costs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--resnet", action="store_true", help="the reduced ResNet-18 on split-cifar100")
    parser.add_argument("--figure", type=Path, help="draw the convergence into this file, too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    benchmark, method = ("split-cifar100", "naive") if given.resnet else ("rotated-mnist", "stable")
    model, images, labels = trained(benchmark, method)
    before = memory()
    operator = HessianOperator(lambda x, y: F.cross_entropy(model(x, 0), y), model.parameters(), [(images, labels)])
    print(
        f"{operator.shape[0]:,} parameters, {operator.bytes_per_example:,} bytes an example, "
        f"graphs kept of {operator.retained:.0%}"
    )
    parameters = list(model.parameters())

    def gradient() -> object:  # the operator's own comes from the graphs that it keeps, at no cost
        return torch.autograd.grad(F.cross_entropy(model(images, 0), labels), parameters)

    compare(operator, gradient, given.rounds, 1e-2 if given.resnet else 1e-3, goals=not given.resnet)
    print(f"peak memory {memory():.2f} GB ({before:.2f} before the operator)")
    if given.figure:
        draw_convergence(operator, given.figure)


if __name__ == "__main__":
    main()
