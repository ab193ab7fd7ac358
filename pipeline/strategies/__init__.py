"""What a method adds to the gradient or to the data. Any strategy goes with any update rule and any regime."""

from __future__ import annotations

from pipeline.config.plan import StrategyPlan
from pipeline.strategies.agem import AGEM
from pipeline.strategies.batch import Batch, Stream
from pipeline.strategies.er import ER
from pipeline.strategies.ewc import EWC
from pipeline.strategies.multitask import Multitask, MultitaskPasses
from pipeline.strategies.naive import Naive

__all__ = ["STRATEGIES", "Batch", "Naive", "Stream", "build_strategy"]

STRATEGIES: dict[str, type[Naive]] = {
    "naive": Naive,
    "ewc": EWC,
    "agem": AGEM,
    "er": ER,
    "multitask": Multitask,
    "multitask-passes": MultitaskPasses,
}


def build_strategy(plan: StrategyPlan, stream: Stream) -> Naive:
    """The strategy that a plan names."""
    return STRATEGIES[plan.name](plan, stream)
