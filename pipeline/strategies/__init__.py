"""What a method adds to the gradient or to the data. Any strategy goes with any update rule and any regime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.config.strategies import (
    AGEMSettings,
    ERSettings,
    EWCSettings,
    MultitaskPassesSettings,
    MultitaskSettings,
    NaiveSettings,
    StrategySettings,
)
from pipeline.strategies.agem import AGEM
from pipeline.strategies.batch import Batch, Stream
from pipeline.strategies.er import ER
from pipeline.strategies.ewc import EWC
from pipeline.strategies.multitask import Multitask, MultitaskPasses
from pipeline.strategies.naive import Naive

__all__ = ["STRATEGIES", "Batch", "Naive", "Stream", "build_strategy"]

#: A strategy's settings -> what carries it out.
STRATEGIES: dict[type[StrategySettings], Callable[[Any, Stream], Naive]] = {
    NaiveSettings: Naive,
    EWCSettings: EWC,
    AGEMSettings: AGEM,
    ERSettings: ER,
    MultitaskSettings: Multitask,
    MultitaskPassesSettings: MultitaskPasses,
}


def build_strategy(plan: StrategySettings, stream: Stream) -> Naive:
    """The strategy of these settings."""
    return STRATEGIES[type(plan)](plan, stream)
