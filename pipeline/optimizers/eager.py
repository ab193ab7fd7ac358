"""PyTorch's update rules without the import of its compiler.

The first optimizer that a process creates imports the compiler (`torch._dynamo`), only to tell it not to compile the
methods of optimizers. That import takes half as long as importing PyTorch itself, in every process that trains. The
classes here have the same methods without that request to the compiler, and compute what PyTorch's compute. Code that
is compiled should use PyTorch's own classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from inspect import unwrap
from typing import Any

import torch

#: Keys of a parameter group that are no values of an update rule: PyTorch's own, those that its schedulers write, and a
#: label.
_OTHER_KEYS = frozenset(
    ("params", "param_names", "name", "initial_lr", "min_lr", "max_lr", "swa_lr", "base_momentum", "max_momentum")
)


_add_param_group = unwrap(torch.optim.Optimizer.add_param_group)


class EagerOptimizer(torch.optim.Optimizer):
    """Base class of update rules that are never compiled."""

    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, as PyTorch does.

        Args:
            param_group: "params", and the values that the group sets for itself.

        Raises:
            ValueError: if the group, or the optimizer for it, is `differentiable`: these steps record no graph.
        """
        if param_group.get("differentiable", self.defaults.get("differentiable")):
            raise ValueError(
                f"{type(self).__name__} cannot be differentiable, its steps record no graph: remove it, or take "
                f"torch.optim.{type(self).__name__}"
            )
        _add_param_group(self, param_group)

    def _refuse_unknown(self, keys: Iterable[str], rule: str, allowed: str) -> None:
        """Raise ValueError for keys of a parameter group that the update rule would ignore."""
        unknown = sorted(map(str, set(keys) - self.defaults.keys() - _OTHER_KEYS))
        if unknown:
            raise ValueError(
                f"{rule} has no {', '.join(unknown)}: remove it from the parameter group, which may set {allowed} (there is "
                "no weight decay)"
            )

    def _refuse_unreal(self, rule: str) -> None:
        """Take the newest parameter group out again and raise ValueError if a parameter of it is not of real numbers."""
        unreal = [param.dtype for param in self.param_groups[-1]["params"] if not param.is_floating_point()]
        if unreal:
            del self.param_groups[-1]
            raise ValueError(f"{rule} needs real floating-point parameters, got {unreal[0]}")


class SGD(EagerOptimizer, torch.optim.SGD):
    """`torch.optim.SGD`, without the import of the compiler."""

    step = torch.no_grad()(unwrap(torch.optim.SGD.step))


class Adagrad(EagerOptimizer, torch.optim.Adagrad):
    """`torch.optim.Adagrad`, without the import of the compiler."""

    step = torch.no_grad()(unwrap(torch.optim.Adagrad.step))


class Adam(EagerOptimizer, torch.optim.Adam):
    """`torch.optim.Adam`, without the import of the compiler."""

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))
