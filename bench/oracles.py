"""Our eigensolvers beside those of curvlinops and hessian-eigenthings: seconds at an equal residual, one CPU thread.

    python -m bench.oracles [--rounds 3] [--benchmark rotated-digits] [--resnet] [--target 1e-3] [--power-steps 150]

The networks and images of bench.curvature. Each solver is to bring the relative residuals |H v - lambda v| / |lambda| of the
top 3 pairs, with the undeflated Hessian, below the target; its settings are found first, untimed. A run begins with the
construction of the operator, so that the graph which ours keeps is paid for. The runs alternate, and the seconds are
medians over the rounds; a solver that takes over half a minute runs once.

A small residual says that a pair is one, not that it is among the largest: the last column compares the eigenvalues with
those of a Lanczos run for twice as many pairs at a tenth of the target.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.curvature import K, trained
from bench.tag import measure
from pipeline.curvature import EigenResult, HessianOperator, deflated_power_iteration, lanczos
from pipeline.curvature.operator import products
from pipeline.models import TaskModel

#: A solver whose first run takes longer is not run again.
PATIENCE = 30.0
#: Steps of hessian-eigenthings' Lanczos, which takes as many as it is told: the fewest of these that reach the target.
STEPS = "8,10,12,15,20,25,30,40,50"
#: Images that the other libraries take at once; both operators then see batches of one size. Ours cuts by memory.
BATCH = {"split-cifar100": 100}


class Found(NamedTuple):
    """Eigenvalues, (k,), eigenvectors, (n, k), and the products they took."""

    values: Tensor
    vectors: Tensor
    matvecs: int


class FirstTask(nn.Module):
    """A network for the outputs of task 1 alone: curvlinops calls a module with the inputs and nothing else."""

    def __init__(self, model: TaskModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """The logits."""
        logits: Tensor = self.model(images, 0)
        return logits


class Case:
    """A network and its images, and the Hessian of its loss by each library."""

    def __init__(self, model: TaskModel, images: Tensor, labels: Tensor, batch: int) -> None:
        self.model, self.images, self.labels = model, images, labels
        self.batches = list(zip(torch.split(images, batch), torch.split(labels, batch), strict=True))

    def ours(self) -> HessianOperator:
        """Ours."""
        return HessianOperator(
            lambda x, y: F.cross_entropy(self.model(x, 0), y), self.model.parameters(), [(self.images, self.labels)]
        )

    def curvlinops(self) -> Any:
        """curvlinops', without the check that its loss is not random, which would cost two products more."""
        from curvlinops import HessianLinearOperator

        return HessianLinearOperator(
            FirstTask(self.model),
            nn.CrossEntropyLoss(),
            list(self.model.parameters()),
            self.batches,
            check_deterministic=False,
        )

    def eigenthings(self) -> Any:
        """hessian-eigenthings'. It weighs batches of different sizes alike; these have the same."""
        from hessian_eigenthings import HessianOperator as Eigenthings

        return Eigenthings(self.model, self.batches, lambda model, batch: F.cross_entropy(model(batch[0], 0), batch[1]))


def ours(solver: Callable[..., EigenResult], tolerance: float, operator: HessianOperator) -> Found:
    """By one of our solvers."""
    result = solver(operator, K, tolerance=tolerance)
    return Found(result.eigenvalues, result.eigenvectors, result.matvecs)


def scipy(tolerance: float, operator: Any) -> Found:
    """By SciPy's eigsh with its default basis, from the start vector of our `lanczos`.

    operator: of curvlinops, or any that multiplies tensors by `matvec`.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    used = 0

    def counted(v: np.ndarray) -> Any:
        nonlocal used
        used += 1
        return multiply(v)

    if hasattr(operator, "to_scipy"):
        multiply = operator.to_scipy(dtype=np.float32).matvec
    else:

        def multiply(v: np.ndarray) -> Any:
            return operator.matvec(torch.from_numpy(v.reshape(-1))).numpy()

    start = torch.randn(operator.shape[0], generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()
    values, vectors = eigsh(
        LinearOperator(operator.shape, matvec=counted, dtype=np.float32), K, which="LM", v0=start.numpy(), tol=tolerance
    )
    order = np.argsort(-np.abs(values))
    return Found(torch.from_numpy(values[order]), torch.from_numpy(vectors[:, order]), used)


def eigenthings(solver: str, settings: dict[str, Any], operator: Any) -> Found:
    """By a solver of hessian-eigenthings; its eigenvectors are rows, and each of its iterations is one product."""
    import hessian_eigenthings

    if isinstance(operator, HessianOperator):
        operator = hessian_eigenthings.LambdaOperator(operator.matvec, operator.shape[0], dtype=operator.dtype)
    result = getattr(hessian_eigenthings, solver)(operator, k=K, seed=0, **settings)
    return Found(result.eigenvalues, result.eigenvectors.T, result.iterations)


def residual(operator: HessianOperator, found: Found) -> float:
    """The largest relative residual with the undeflated Hessian, by our products."""
    off = products(operator, found.vectors) - found.vectors * found.values
    return float((torch.linalg.vector_norm(off, dim=0) / found.values.abs()).max())


def loosest(
    solve: Callable[[Any, HessianOperator], Found], settings: list[Any], operator: HessianOperator, target: float
) -> Any:
    """The first of the settings that brings the residual below the target, or else the last."""
    for setting in settings[:-1]:
        if residual(operator, solve(setting, operator)) <= target:
            return setting
    return settings[-1]


def table(case: Case, rounds: int, target: float, power_steps: int, lanczos_steps: list[int]) -> None:
    """Time the products, then the solvers."""
    operator = case.ours()
    v = torch.randn(operator.shape[0], generator=torch.Generator().manual_seed(0))
    theirs, other = case.curvlinops(), case.eigenthings()
    times = measure([partial(operator.matvec, v), lambda: theirs @ v, partial(other.matvec, v)], rounds)
    each = [statistics.median(column) for column in zip(*times, strict=True)]
    wanted = operator.matvec(v)
    off = [float((found - wanted).norm() / wanted.norm()) for found in (theirs @ v, other.matvec(v))]
    print(
        f"a product: ours {each[0]:.3f} s (its graph kept), curvlinops {each[1]:.3f} s, hessian-eigenthings {each[2]:.3f} s;"
        f" they differ from ours by {off[0]:.0e} and {off[1]:.0e} (float32)"
    )
    reference = lanczos(operator, 2 * K, tolerance=target / 10)
    print(f"largest eigenvalues: {', '.join(f'{value:.5g}' for value in reference.eigenvalues.tolist())}")
    tolerance = loosest(scipy, [target, target / 2, target / 4], operator, target)
    steps = loosest(
        lambda m, h: eigenthings("lanczos", {"max_iter": m}, h), [m for m in lanczos_steps if m >= K], operator, target
    )
    basis = loosest(
        lambda m, h: ours(partial(lanczos, basis=m), target, h),
        [m for m in lanczos_steps if m > 2 * K],
        operator,
        target,
    )
    # Its residual is that of the deflated operator, and the true one was up to twice as large at its first pairs.
    power = {"max_iter": power_steps, "tol": target / 2}
    solvers: dict[str, tuple[Callable[[], Any], Callable[[Any], Found]]] = {
        f"ours: power, {target:.0e}": (case.ours, partial(ours, deflated_power_iteration, target)),
        f"ours: lanczos, {target:.0e}": (case.ours, partial(ours, lanczos, target)),
        f"ours: lanczos, {target:.0e}, basis {basis}": (
            case.ours,
            partial(ours, partial(lanczos, basis=basis), target),
        ),
        f"curvlinops + eigsh, {tolerance:.0e}": (case.curvlinops, partial(scipy, tolerance)),
        f"eigenthings: lanczos, {steps} steps": (
            case.eigenthings,
            partial(eigenthings, "lanczos", {"max_iter": steps}),
        ),
        f"eigenthings: power, {power['tol']:.0e}": (
            case.eigenthings,
            partial(eigenthings, "deflated_power_iteration", power),
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in solvers}
    results: dict[str, Found] = {}
    for _ in range(rounds):
        for name, (build, solve) in solvers.items():
            if seconds[name] and seconds[name][0] > PATIENCE:
                continue
            start = time.perf_counter()
            results[name] = solve(build())
            seconds[name].append(time.perf_counter() - start)
    print(
        f"\n{'solver, setting':<34} {'seconds':>8} {'runs':>5} {'products':>9} {'residual':>9} {'error of lambda':>16}"
    )
    for name, found in results.items():
        error = float(((found.values - reference.eigenvalues[:K]) / reference.eigenvalues[:K]).abs().max())
        print(
            f"{name:<34} {statistics.median(seconds[name]):>8.2f} {len(seconds[name]):>5} {found.matvecs:>9} "
            f"{residual(operator, found):>9.1e} {error:>16.1e}"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.oracles", description="our eigensolvers beside those of two other libraries"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--benchmark", default="rotated-mnist", help="whose network and images; not with --resnet")
    parser.add_argument("--resnet", action="store_true", help="the reduced ResNet-18 on split-cifar100")
    parser.add_argument("--target", type=float, default=1e-3, help="relative residual that every solver is to reach")
    parser.add_argument(
        "--power-steps",
        type=int,
        default=150,
        help="steps a pair of hessian-eigenthings' power iteration, whose own default is 100",
    )
    parser.add_argument("--lanczos-steps", default=STEPS, help="steps of its Lanczos; the fewest that reach the target")
    given = parser.parse_args()
    torch.set_num_threads(1)
    benchmark, method = ("split-cifar100", "naive") if given.resnet else (given.benchmark, "stable")
    model, images, labels = trained(benchmark, method)
    case = Case(model, images, labels, BATCH.get(benchmark, len(images)))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, target {given.target:.0e}")
    steps = [int(word) for word in given.lanczos_steps.split(",")]
    table(case, given.rounds, given.target, given.power_steps, steps)


if __name__ == "__main__":
    main()
