"""Build an optimizer from the name of its update rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from .eager import SGD, Adagrad, Adam
from .rmsprop import RMSprop
from .tag import TAG

#: Update rules by name. What a plan leaves out keeps PyTorch's default values (TAG: the paper's), as in TAG's
#: experiments.
UPDATE_RULES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": SGD,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
    "adam": Adam,
    "tag": TAG,
}

#: On a CPU, the default loops of these rules take roots that differ between processors; their fused kernels do not.
FUSED_ON_CPU = ("adagrad", "adam")


def build_optimizer(
    params: Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]],
    name: str,
    lr: float,
    **values: Any,
) -> torch.optim.Optimizer:
    """Build the optimizer with the update rule `name`.

    On a CPU, Adagrad and Adam run as PyTorch's fused kernels, unless `values` choose another of its implementations.

    Args:
        params: Parameters, named parameters or parameter groups.
        name: A key of `UPDATE_RULES`: "sgd", "rmsprop", "adagrad", "adam" or "tag".
        lr: Learning rate.
        values: Further arguments of the update rule: `momentum` for sgd; `base`, `b` and `bank_dtype` (here also by
            name, such as "bfloat16") for tag. Those left out keep the rule's defaults.

    Raises:
        ValueError: if the name is unknown, if a value is out of the rule's range, or for `differentiable`, as
            no steps here record a graph.
    """
    if name not in UPDATE_RULES:
        raise ValueError(f"unknown update rule '{name}'; choose one of {', '.join(UPDATE_RULES)}")
    if isinstance(named := values.get("bank_dtype"), str):
        dtype = getattr(torch, named, None)
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"bank_dtype must name a dtype of PyTorch, such as 'bfloat16', got {named!r}")
        values["bank_dtype"] = dtype
    if not values.get("differentiable", True):
        del values["differentiable"]  # which TAG and RMSprop do not know
    elif "differentiable" in values:
        raise ValueError(f"{name} cannot be differentiable, its steps record no graph: remove it, or use torch.optim")
    given: list[Any] = [_readable_twice(entry) for entry in params]
    chosen = values.keys() & {"fused", "foreach"}
    if name in FUSED_ON_CPU and not chosen and all(map(_on_cpu, given)):
        values["fused"] = True
    return UPDATE_RULES[name](given, lr=lr, **values)


def _readable_twice(entry: Any) -> Any:
    """A parameter group whose parameters come from an iterator, such as `model.parameters()`, with a list of them."""
    if isinstance(entry, dict) and isinstance(entry.get("params"), Iterator):
        return {**entry, "params": list(entry["params"])}
    return entry


def _on_cpu(entry: Any) -> bool:
    """Whether a parameter, a named parameter, or all parameters of a group are on the CPU."""
    if isinstance(entry, dict):
        held = entry.get("params", ())
        return all(_on_cpu(param) for param in ([held] if isinstance(held, Tensor) else held))
    tensor: Tensor = entry[1] if isinstance(entry, tuple) else entry
    return tensor.device.type == "cpu"
