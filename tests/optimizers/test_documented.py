"""The examples of docs/tag.md and docs/stable_sgd.md, run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from pipeline.analysis.intervals import paired_difference
from pipeline.optimizers import TAG
from tests.paths import ROOT

SEEDS = range(101, 109)
Stream = list[list[tuple[Tensor, Tensor]]]


class StoppedError(Exception):
    """A kill."""


def example(section: str, name: str = "tag.md") -> str:
    """The one block of Python below a heading of a page."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    (block,) = re.findall(
        r"^```python\n(.*?)^```$", page.partition(f"\n## {section}\n")[2].partition("\n## ")[0], re.M | re.S
    )
    return str(block)


def run(code: str, **names: Any) -> dict[str, Any]:
    names |= {"torch": torch}
    exec(compile(code, "docs", "exec", dont_inherit=True), names)
    return names


def model_of(seed: int, *, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Dropout(dropout), nn.Linear(5, 2))


def stream_of(tasks: int, steps: int) -> Stream:
    torch.manual_seed(7)
    return [[(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(steps)] for _ in range(tasks)]


def weights(model: nn.Module) -> list[list[float]]:
    return [param.flatten().tolist() for param in model.parameters()]


def test_the_loop_of_the_page_trains_and_tells_alphas(capsys: pytest.CaptureFixture[str]) -> None:
    model = model_of(0)
    before = weights(model)
    names = run(example("In your own code"), model=model, stream=stream_of(3, 4))
    assert weights(model) != before
    assert names["optimizer"].tasks == 3
    assert capsys.readouterr().out.count("0.weight") == 3


@pytest.mark.parametrize("stop", range(13))
def test_the_resume_of_the_page_ends_with_the_bits_of_a_run_that_never_stopped(tmp_path: Path, stop: int) -> None:
    stream = stream_of(3, 4)

    def train(model: nn.Module, checkpoint: Path) -> TAG:
        optimizer = TAG(model.named_parameters(), 0.01)
        run(example("To stop and resume"), model=model, optimizer=optimizer, stream=stream, checkpoint=checkpoint)
        return optimizer

    whole = model_of(0)
    optimizer = train(whole, tmp_path / "whole.pt")

    steps = 0

    def kill(*_: Any) -> None:
        nonlocal steps
        if steps == stop:
            raise StoppedError
        steps += 1

    stopped, resumed = model_of(0), model_of(0)
    stopped.register_forward_pre_hook(kill)
    if stop < 12:  # after 12 steps the run is over
        with pytest.raises(StoppedError):
            train(stopped, tmp_path / "stopped.pt")
    else:
        train(stopped, tmp_path / "stopped.pt")
    again = train(resumed, tmp_path / "stopped.pt")
    assert weights(resumed) == weights(whole)
    assert again.tasks == optimizer.tasks == 3
    for one, other in zip(again.state.values(), optimizer.state.values(), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_loop_of_stable_sgd_lowers_the_rate_from_task_to_task() -> None:
    model = model_of(0, dropout=0.5)
    model.eval()
    rates: list[float] = []
    model.register_forward_pre_hook(lambda *_: rates.append(names["optimizer"].param_groups[0]["lr"]))
    names: dict[str, Any] = {"model": model, "stream": stream_of(3, 2), "torch": torch}
    exec(compile(example("In your own code", "stable_sgd.md"), "docs", "exec", dont_inherit=True), names)
    assert rates == pytest.approx([0.08] * 2 + [0.064] * 2 + [0.0512] * 2)
    assert model.training
    assert names["optimizer"].param_groups[0]["momentum"] == 0.8


def test_the_table_of_stable_sgd_is_that_of_the_records() -> None:
    page = (ROOT / "docs" / "stable_sgd.md").read_text(encoding="utf-8")
    for benchmark in ("rotated-digits", "permuted-digits"):
        folder = ROOT / "results" / "tuning" / benchmark
        parts, batches = (pd.read_csv(folder / f"stable-{kind}.csv") for kind in ("parts", "batch-size"))
        still, dropped = parts["lr_decay"] == 1, parts["dropout"] > 0
        neither = best(parts[still & ~dropped])
        assert f"| {100 * neither.mean():.1f} % |" in page
        for chosen in (
            parts[still & dropped],
            parts[~still & ~dropped],
            parts[~still & dropped],
            batches[batches["batch_size"] == 10],
            batches[batches["batch_size"] == 20],
        ):
            values = best(chosen)
            found = paired_difference(
                {seed: 100 * values[seed] for seed in SEEDS}, {seed: 100 * neither[seed] for seed in SEEDS}
            )
            assert found is not None
            told = f"{found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}]".replace("-", "−")
            assert f"| {100 * values.mean():.1f} % | {told} |" in page


def best(runs: pd.DataFrame) -> pd.Series[float]:
    """Average accuracy by seed, at the values whose mean is highest."""
    values = [name for name in ("lr", "lr_decay", "dropout", "batch_size") if name in runs]
    groups = [group for _, group in runs.groupby(values)]
    return max(groups, key=lambda group: group["average_accuracy"].mean()).set_index("seed")["average_accuracy"]
