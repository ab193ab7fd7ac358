"""What a TAG step costs: (forward + backward + step) / (forward + backward) on the reduced ResNet-18, one CPU thread.

    python -m bench.tag [--rounds 30] [--base rmsprop] [--bank-dtype bfloat16]

Batch 10, 32x32 images, 100 outputs. Every round times the three kinds of iteration (no step, TAG, PyTorch's RMSprop) one
after the other, so that a slower minute of the machine slows all three; each ratio is the median over the rounds, with its
quartiles beside it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.models.resnet import ReducedResNet18
from pipeline.optimizers import TAG

EARLIER_TASKS = (0, 5, 10, 19)
BATCH, CLASSES, LR = 10, 100, 1e-6
#: Steps with random gradients on each earlier task: enough for a direction of its own.
STEPS_A_TASK = 2
GOAL_MEAN, GOAL_LAST = 1.15, 1.25


def trained_on(earlier: int, model: nn.Module, base: str, bank_dtype: torch.dtype | None) -> TAG:
    """TAG in the middle of task `earlier` + 1: its banks filled by real steps with random gradients."""
    optimizer = TAG(model.parameters(), LR, base=base, bank_dtype=bank_dtype)  # type: ignore[arg-type]
    for _ in range(earlier + 1):
        optimizer.begin_task()
        for _ in range(STEPS_A_TASK):
            for param in model.parameters():
                param.grad = torch.randn_like(param).mul_(1e-2)
            optimizer.step()
    return optimizer


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def measure(iterations: list[Callable[[], object]], rounds: int) -> list[list[float]]:
    """(rounds, iterations) seconds: the iterations in turn, `rounds` times after three unmeasured ones."""
    return [[seconds(iteration) for iteration in iterations] for _ in range(rounds + 3)][3:]


def bank_bytes(optimizer: TAG) -> int:
    """Bytes that the moments of past tasks take."""
    return sum(
        state[bank].numel() * state[bank].element_size()
        for state in optimizer.state.values()
        for bank in ("past_directions", "past_second_moments")
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.tag", description="the cost of a TAG step, as a ratio")
    parser.add_argument("--rounds", type=int, default=30, help="iterations of each kind that the medians are taken of")
    parser.add_argument("--base", choices=("rmsprop", "adagrad", "adam"), default="rmsprop", help="TAG's base update")
    parser.add_argument("--bank-dtype", choices=("float32", "bfloat16"), default="float32", help="dtype of the banks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = ReducedResNet18(CLASSES)
    images, labels = torch.rand(BATCH, 3, 32, 32), torch.randint(CLASSES, (BATCH,))
    rmsprop = torch.optim.RMSprop(model.parameters(), LR)

    def forward_backward() -> None:
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]

    def with_step(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
        def iteration() -> None:
            forward_backward()
            optimizer.step()

        return iteration

    print(f"TAG ({arguments.base}, banks in {arguments.bank_dtype}), reduced ResNet-18, batch {BATCH}, one thread")
    print(f"{'earlier tasks':>13} {'fwd+bwd ms':>10} {'TAG':>6} {'quartiles':>12} {'RMSprop':>8} {'banks MB':>9}")
    ratios = []
    for earlier in EARLIER_TASKS:
        tag = trained_on(earlier, model, arguments.base, getattr(torch, arguments.bank_dtype))
        times = measure([forward_backward, with_step(tag), with_step(rmsprop)], arguments.rounds)
        low, middle, high = statistics.quantiles([tagged / plain for plain, tagged, _ in times], method="inclusive")
        ratios.append(middle)
        print(
            f"{earlier:>13} {statistics.median(plain for plain, _, _ in times) * 1e3:>10.2f} {middle:>6.3f} "
            f"{low:>5.2f} - {high:<4.2f} {statistics.median(other / plain for plain, _, other in times):>8.3f} "
            f"{bank_bytes(tag) / 1e6:>9.1f}"
        )
    mean, last = statistics.mean(ratios), ratios[-1]
    print(f"mean {mean:.3f} (goal: at most {GOAL_MEAN}); at {EARLIER_TASKS[-1]} {last:.3f} (goal: at most {GOAL_LAST})")


if __name__ == "__main__":
    main()
