"""What portable arithmetic costs, and what our update rules cost beside PyTorch's: ratios within one run, one CPU thread.

    python -m bench.portable [--rounds 15]

The kernels are chosen when PyTorch is loaded, so two processes stay side by side, one portable and one with the fastest
kernels, and take turns: every round times each piece of work in one, then in the other, and the ratio is the median over the
rounds, with its quartiles. The work is that of the stages: training steps, evaluation, Hessian-vector products.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import IO, Any, cast

BATCH, CLASSES = 10, 100
#: Calls that one timing takes together: short ones are repeated.
CALLS = {
    "reduced ResNet-18: step of SGD": 3,
    "reduced ResNet-18: evaluation of 100 images": 3,
    "MLP 784-100-100-10: step of SGD, batch 10": 200,
    "MLP 784-100-100-10: step of SGD, batch 64": 200,
    "MLP 784-100-100-10: evaluation of 1,000 images": 20,
    "MLP 784-100-100-10: Hessian-vector product, 2,000 images": 5,
    "RMSprop's step alone, ours": 20,
    "RMSprop's step alone, PyTorch's": 20,
    "Adam's step alone, ours (fused)": 20,
    "Adam's step alone, PyTorch's default": 20,
    "Adagrad's step alone, ours (fused)": 20,
    "Adagrad's step alone, PyTorch's default": 20,
}


def work() -> dict[str, Callable[[], object]]:
    """The pieces of work by name."""
    import torch
    import torch.nn.functional as F

    from pipeline.config.sections import Compute
    from pipeline.curvature import HessianOperator
    from pipeline.models import TaskModel, TaskTensors
    from pipeline.models.mlp import MLP
    from pipeline.models.resnet import ReducedResNet18
    from pipeline.optimizers import build_optimizer
    from pipeline.support.compute import prepare
    from pipeline.training.evaluation import evaluate

    prepare(Compute(device="cpu", threads=1))
    torch.manual_seed(0)

    def model_of(network: torch.nn.Module, outputs: int) -> TaskModel:
        return TaskModel(network, [list(range(outputs))], "shared")

    def images(count: int, side: int, channels: int) -> torch.Tensor:
        drawn = torch.randint(256, (count, side, side, channels), dtype=torch.uint8)
        return drawn.permute(0, 3, 1, 2)  # channels last, as the stages have them

    def step(model: TaskModel, batch: torch.Tensor, outputs: int) -> Callable[[], object]:
        optimizer = build_optimizer(model.parameters(), "sgd", lr=1e-6)
        labels = torch.randint(outputs, (len(batch),))

        def one() -> None:
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(model(batch, 0), labels))
            optimizer.step()

        return one

    def evaluation(model: TaskModel, batch: torch.Tensor, outputs: int) -> Callable[[], object]:
        task = TaskTensors(0, batch, torch.randint(outputs, (len(batch),)))
        return lambda: evaluate(model, task)

    resnet, mlp = model_of(ReducedResNet18(CLASSES), CLASSES), model_of(MLP(784, [100, 100], 10), 10)
    many, labels = images(2000, 28, 1), torch.randint(10, (2000,))
    still = model_of(MLP(784, [100, 100], 10), 10)  # whose weights no step moves
    operator = HessianOperator(lambda x, y: F.cross_entropy(still(x, 0), y), still.parameters(), [(many, labels)])
    vector = torch.randn(operator.shape[0])

    def rule(build: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]) -> Callable[[], object]:
        parameters = [torch.nn.Parameter(p.detach().clone()) for p in resnet.parameters()]
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter) * 1e-2
        return build(parameters).step

    pieces: list[Callable[[], object]] = [
        step(resnet, images(BATCH, 32, 3), CLASSES),
        evaluation(resnet, images(100, 32, 3), CLASSES),
        step(mlp, images(10, 28, 1), 10),
        step(mlp, images(64, 28, 1), 10),
        evaluation(mlp, images(1000, 28, 1), 10),
        lambda: operator.matvec(vector),
        rule(lambda given: build_optimizer(given, "rmsprop", lr=1e-6)),
        rule(lambda given: torch.optim.RMSprop(given, lr=1e-6)),
        rule(lambda given: build_optimizer(given, "adam", lr=1e-6)),
        rule(lambda given: torch.optim.Adam(given, lr=1e-6)),
        rule(lambda given: build_optimizer(given, "adagrad", lr=1e-6)),
        rule(lambda given: torch.optim.Adagrad(given, lr=1e-6)),
    ]
    return dict(zip(CALLS, pieces, strict=True))


def serve(portable: bool) -> None:
    """Time what is asked for on standard input, a name a line; answer with seconds a call."""
    if portable:
        from pipeline.support.portable import make_portable

        if reason := make_portable():
            sys.exit(f"bench.portable: {reason}")
    pieces = work()
    print("ready", flush=True)
    for line in sys.stdin:
        name = json.loads(line)
        start = time.perf_counter()
        for _ in range(CALLS[name]):
            pieces[name]()
        print(json.dumps((time.perf_counter() - start) / CALLS[name]), flush=True)


class Server:
    """A process that times."""

    def __init__(self, kind: str) -> None:
        command = [sys.executable, "-m", "bench.portable", "--serve", kind]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.questions, self.answers = cast("IO[str]", self.process.stdin), cast("IO[str]", self.process.stdout)
        if self.answers.readline() != "ready\n":
            sys.exit(f"bench.portable: the process with {kind} kernels did not start, see above")

    def time(self, name: str) -> float:
        """Seconds a call."""
        print(json.dumps(name), file=self.questions, flush=True)
        return float(json.loads(self.answers.readline()))

    def end(self) -> None:
        """End it."""
        self.questions.close()
        self.process.wait()


def quartiles(values: list[float]) -> str:
    """Median (lower, upper quartile)."""
    low, middle, high = statistics.quantiles(values, method="inclusive")
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.portable", description="the cost of portable arithmetic")
    parser.add_argument("--rounds", type=int, default=15, help="timings of each that the medians are taken of")
    parser.add_argument("--serve", choices=("portable", "fastest"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve == "portable")
        return
    portable, fastest = Server("portable"), Server("fastest")
    print(f"{'work':58} {'portable ms':>11} {'fastest ms':>10}   portable / fastest (quartiles)")
    found: dict[str, list[tuple[float, float]]] = {}
    for name in CALLS:
        rounds: list[Any] = [(portable.time(name), fastest.time(name)) for _ in range(given.rounds + 1)][1:]
        found[name] = rounds
        ours, theirs = (1e3 * statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{name:58} {ours:>11.3f} {theirs:>10.3f}   {quartiles([a / b for a, b in rounds])}")
    names = list(CALLS)
    for ours, theirs in zip(names[-6::2], names[-5::2], strict=True):
        ratio = statistics.median(a for a, _ in found[ours]) / statistics.median(b for _, b in found[theirs])
        print(f"{ours} / {theirs}: {ratio:.2f}")
    portable.end()
    fastest.end()


if __name__ == "__main__":
    main()
