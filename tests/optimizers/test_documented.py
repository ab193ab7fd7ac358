"""The examples of docs/tag.md, run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.optimizers import TAG
from tests.paths import ROOT

Stream = list[list[tuple[Tensor, Tensor]]]


class StoppedError(Exception):
    """A kill."""


def example(section: str) -> str:
    """The one block of Python below a heading of the page."""
    page = (ROOT / "docs" / "tag.md").read_text(encoding="utf-8")
    (block,) = re.findall(
        r"^```python\n(.*?)^```$", page.partition(f"\n## {section}\n")[2].partition("\n## ")[0], re.M | re.S
    )
    return str(block)


def run(code: str, **names: Any) -> dict[str, Any]:
    names |= {"torch": torch}
    exec(compile(code, "docs/tag.md", "exec", dont_inherit=True), names)
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
