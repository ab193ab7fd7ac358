"""RMSprop (Tieleman and Hinton 2012), with a square root that is the same number on every processor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

from pipeline.optimizers.eager import EagerOptimizer
from pipeline.optimizers.roots import sqrt_


class RMSprop(EagerOptimizer):
    r"""PyTorch's RMSprop without momentum, centring and weight decay.

        V     <- alpha V + (1 - alpha) g^2
        theta <- theta - lr g / ( sqrt(V) + eps )

    :class:`torch.optim.RMSprop` takes its root from a library whose last bit depends on the processor; SGD, Adagrad and Adam
    have kernels of PyTorch's own that do not (the last two where they are fused).

    Args:
        params: parameters, named parameters, or parameter groups.
        lr: learning rate.
        alpha: decay of the second moment, in [0, 1).
        eps: added to the root.

    Raises:
        ValueError: for a value out of its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
    ) -> None:
        if not 0 <= lr < math.inf:
            raise ValueError(f"lr must be a number of at least 0, is {lr!r}")
        if not 0 <= alpha < 1:
            raise ValueError(f"alpha must be in [0, 1), is {alpha!r}")
        if not eps >= 0:
            raise ValueError(f"eps must be at least 0, is {eps!r}")
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update. closure: re-evaluates the model and returns its loss."""
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
