"""What a method adds to the gradient or to the data. Any strategy goes with any update rule."""

from __future__ import annotations

from pipeline.config.plan import StrategyPlan
from pipeline.strategies.naive import Batch, Naive

__all__ = ["Batch", "Naive", "build_strategy"]

STRATEGIES: dict[str, type[Naive]] = {"naive": Naive}


def build_strategy(plan: StrategyPlan) -> Naive:
    """The strategy that a plan names."""
    return STRATEGIES[plan.name]()
