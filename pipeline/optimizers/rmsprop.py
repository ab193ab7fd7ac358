"""RMSprop (Tieleman and Hinton 2012) with a square root that is the same number on every processor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

from .eager import EagerOptimizer
from .roots import sqrt_


class RMSprop(EagerOptimizer):
    """PyTorch's RMSprop without momentum, centring and weight decay.

        V     <- alpha V + (1 - alpha) g^2
        theta <- theta - lr g / ( sqrt(V) + eps )

    On a CPU, `torch.optim.RMSprop` takes its square root from a library whose last bit depends on the processor. SGD,
    Adagrad and Adam do not need a class like this one: PyTorch has kernels for them that give the same bits everywhere
    (for Adagrad and Adam, the fused ones).

    Args:
        params: Parameters, named parameters, or parameter groups; a group may set its own lr, alpha and eps.
        lr: Learning rate, a float of at least 0.
        alpha: Decay of the second moment, in [0, 1).
        eps: Added to the square root; at least 0.

    Raises:
        ValueError: if a value is out of its range, if a group has a key that there is not, or if a parameter is not of a
            real floating-point dtype.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters.

        Args:
            param_group: "params", and the values that the group sets for itself: lr, alpha, eps.

        Raises:
            ValueError: as for the whole optimizer; nothing is added then.
        """
        self._refuse_unknown(param_group, "RMSprop", "lr, alpha and eps")
        group = {**self.defaults, **param_group}
        if isinstance(group["lr"], Tensor) or not 0 <= group["lr"] < math.inf:
            raise ValueError(f"lr must be a number of at least 0, and no tensor, is {group['lr']!r}")
        if not 0 <= group["alpha"] < 1:
            raise ValueError(f"alpha must be in [0, 1), is {group['alpha']!r}")
        if not group["eps"] >= 0:
            raise ValueError(f"eps must be at least 0, is {group['eps']!r}")
        super().add_param_group(param_group)
        self._refuse_unreal("RMSprop")

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all parameters that have a gradient.

        Args:
            closure: Evaluates the model again and returns its loss; it is called before the update.

        Returns:
            The loss of the closure, or None without one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            if not params:
                continue
            gradients = [param.grad for param in params]
            for param in params:
                if not self.state[param]:
                    self.state[param]["square_avg"] = torch.zeros_like(param, memory_format=torch.preserve_format)
            second_moments = [self.state[param]["square_avg"] for param in params]
            torch._foreach_mul_(second_moments, group["alpha"])
            torch._foreach_addcmul_(second_moments, gradients, gradients, 1 - group["alpha"])
            roots = [moment.clone() for moment in second_moments]
            sqrt_(roots)
            torch._foreach_add_(roots, group["eps"])
            torch._foreach_addcdiv_(params, gradients, roots, -group["lr"])
        return loss
