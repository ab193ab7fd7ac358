"""The mode in which a network computes: training or evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode within a `with` block, and restore its mode at the end, also after an error.

    There is then no dropout, and batch normalisation uses its running statistics and does not update them.
    """
    mode = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(mode)
