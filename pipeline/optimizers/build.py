"""The builder that knows every update rule by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from pipeline.optimizers.eager import SGD, Adagrad, Adam
from pipeline.optimizers.rmsprop import RMSprop
from pipeline.optimizers.tag import TAG

#: PyTorch's defaults apart from what a plan gives, as TAG's experiments used them.
UPDATE_RULES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": SGD,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
    "adam": Adam,
    "tag": TAG,
}

#: Their default loops take square roots that differ from processor to processor; their fused kernels do not.
FUSED_ON_CPU = ("adagrad", "adam")


def build_optimizer(
    params: Iterable[Tensor] | Iterable[tuple[str, Tensor]], name: str, lr: float, **values: Any
) -> torch.optim.Optimizer:
    """The update rule `name` over `params` (or named parameters). values: momentum for sgd; base, b
    and bank_dtype (the name of a dtype) for tag.

    Raises ValueError for an unknown name.
    """
    if "bank_dtype" in values:
        values["bank_dtype"] = getattr(torch, values["bank_dtype"])
    if name not in UPDATE_RULES:
        raise ValueError(f"unknown update rule '{name}'; there are {', '.join(UPDATE_RULES)}")
    given: list[Any] = list(params)
    tensors = [entry[1] if isinstance(entry, tuple) else entry for entry in given]
    if name in FUSED_ON_CPU and all(tensor.device.type == "cpu" for tensor in tensors):
        values["fused"] = True
    return UPDATE_RULES[name](given, lr=lr, **values)
