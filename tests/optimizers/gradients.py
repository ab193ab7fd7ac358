"""Streams of random gradients, and TAG's formulas written out plainly, to test the optimizer against."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.optimizers import TAG

BASES = ("rmsprop", "adagrad", "adam")
SHAPES = ((3, 2, 2, 2), (5,), (4, 7), (), (1,))

#: gradients[task][step][tensor]
Gradients = list[list[list[Tensor]]]


def make_params(
    shapes: Sequence[tuple[int, ...]] = SHAPES, dtype: torch.dtype = torch.float64, seed: int = 0
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def make_gradients(params: Sequence[Tensor], tasks: int, steps: int, seed: int = 1) -> Gradients:
    """Each task has a mean direction of its own, so that alphas differ from 1."""
    generator = torch.Generator().manual_seed(seed)

    def noise(param: Tensor) -> Tensor:
        return torch.randn(param.shape, generator=generator, dtype=torch.float64)

    means = [[noise(param) for param in params] for _ in range(tasks)]
    return [
        [[(mean + noise(mean)).to(param.dtype) for mean, param in zip(row, params, strict=True)] for _ in range(steps)]
        for row in means
    ]


def feed(optimizer: torch.optim.Optimizer, params: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """One step with these gradients."""
    for param, gradient in zip(params, gradients, strict=True):
        param.grad = None if gradient is None else gradient.to(param.device)
    optimizer.step()


def run(optimizer: TAG, params: Sequence[Tensor], gradients: Gradients) -> list[Tensor]:
    """Whole tasks, one after the other. Returns the alphas of every step."""
    alphas = []
    for task in gradients:
        optimizer.begin_task()
        for step in task:
            feed(optimizer, params, step)
            alphas.append(optimizer.alphas)
    return alphas


class PlainTAG:
    """The update of one tensor, one task and one step at a time, in float64, as the paper writes it."""

    def __init__(self, param: Tensor, lr: float, base: str, b: float, eps: float = 1e-8) -> None:
        self.theta, self.lr, self.base, self.b, self.eps = param.double().clone(), lr, base, b, eps
        self.beta2 = {"rmsprop": 0.99, "adagrad": 1.0, "adam": 0.999}[base]
        self.m: list[Tensor] = []
        self.v: list[Tensor] = []

    def begin_task(self) -> None:
        self.n = 0
        self.m.append(torch.zeros_like(self.theta))
        self.v.append(torch.zeros_like(self.theta))

    def alpha(self, earlier: int) -> float:
        if len(self.m) == 1:
            return 1.0
        if earlier == len(self.m) - 1:
            return math.exp(-self.b)
        lengths = float(self.m[-1].norm() * self.m[earlier].norm())
        return math.exp(-self.b * float((self.m[-1] * self.m[earlier]).sum()) / lengths) if lengths else 1.0

    def step(self, g: Tensor) -> list[float]:
        g = g.double()
        self.n += 1
        self.m[-1] = 0.9 * self.m[-1] + 0.1 * g
        self.v[-1] = self.v[-1] + g**2 if self.base == "adagrad" else self.beta2 * self.v[-1] + (1 - self.beta2) * g**2
        alphas = [self.alpha(earlier) for earlier in range(len(self.m))]
        root = sum((alpha * v for alpha, v in zip(alphas, self.v, strict=True)), torch.zeros_like(g)).sqrt()
        if self.base == "adam":
            g, root = self.m[-1] / (1 - 0.9**self.n), root / math.sqrt(1 - self.beta2**self.n)
        self.theta = self.theta - self.lr * g / (root + self.eps)
        return alphas
