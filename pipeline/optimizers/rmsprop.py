"""RMSprop (Tieleman and Hinton 2012) with a square root that is the same number on every processor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

from .eager import EagerOptimizer
from .roots import sqrt_

#: Settings of PyTorch's RMSprop that this one does not have.
_IGNORED = ("momentum", "centered", "weight_decay", "maximize")


class RMSprop(EagerOptimizer):
    """PyTorch's RMSprop without momentum, centring and weight decay.

        V     <- alpha V + (1 - alpha) g^2
        theta <- theta - lr g / ( sqrt(V) + eps )

    On a CPU, `torch.optim.RMSprop` takes its square root from a library whose last bit depends on the processor. SGD,
    Adagrad and Adam do not need a class like this one: PyTorch has kernels for them that give the same bits everywhere
    (for Adagrad and Adam, the fused ones).

    V is kept in float64 for float64 parameters and in float32 for all others, in which the step is then computed, too: in
    float16 an eps of 1e-8 would be 0.

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

        Raises:
            RuntimeError: if a gradient is sparse; no parameter is changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:  # all of them before the first is stepped
            for param in group["params"]:
                if param.grad is not None and param.grad.layout != torch.strided:
                    raise RuntimeError("RMSprop does not take sparse gradients; make them dense")
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            wide = [param for param in params if param.dtype == _state_dtype(param)]
            narrow = [param for param in params if param.dtype != _state_dtype(param)]
            if wide:
                gradients = [param.grad for param in wide if param.grad is not None]
                torch._foreach_addcdiv_(wide, gradients, self._roots(wide, gradients, group), -group["lr"])
            if narrow:
                gradients = [param.grad.to(_state_dtype(param)) for param in narrow if param.grad is not None]
                updates = torch._foreach_div(gradients, self._roots(narrow, gradients, group))
                torch._foreach_mul_(updates, group["lr"])
                torch._foreach_sub_(narrow, updates)
        return loss

    def _roots(self, params: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """sqrt(V) + eps for each parameter, once its gradient was added to V."""
        for param in params:
            if not self.state[param]:
                self.state[param]["square_avg"] = torch.zeros_like(
                    param, dtype=_state_dtype(param), memory_format=torch.preserve_format
                )
        second_moments = [self.state[param]["square_avg"] for param in params]
        torch._foreach_mul_(second_moments, group["alpha"])
        torch._foreach_addcmul_(second_moments, gradients, gradients, 1 - group["alpha"])
        roots = [moment.clone() for moment in second_moments]
        sqrt_(roots)
        torch._foreach_add_(roots, group["eps"])
        return roots

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state, bit for bit.

        Tensors move to the device of their parameter. PyTorch would also cast them to the dtype of the parameter; here
        they have the dtype of V.

        Args:
            state_dict: What `state_dict` of RMSprop over parameters of the same shapes returned, or of
                `torch.optim.RMSprop` without momentum, centring and weight decay.

        Raises:
            ValueError: if it is not such a state, or one of other groups or other shapes; nothing is changed then.
        """
        if not self._is_own(state_dict):
            raise ValueError(
                "this is not a state of RMSprop (of another optimizer, other settings, or a model?): load what RMSprop's "
                "state_dict() returned"
            )
        saved = [number for group in state_dict["param_groups"] for number in group["params"]]
        own = [param for group in self.param_groups for param in group["params"]]
        moments = [state_dict["state"].get(number, {}).get("square_avg") for number in saved]
        for number, param, moment in zip(
            saved, own, moments, strict=False
        ):  # PyTorch refuses other numbers of parameters
            if moment is not None and moment.shape != param.shape:
                raise ValueError(
                    f"this is the state of another model: parameter {number} had the shape {tuple(moment.shape)} and has "
                    f"{tuple(param.shape)}"
                )
        super().load_state_dict(state_dict)
        for param, moment in zip(own, moments, strict=True):
            if moment is not None:
                self.state[param]["square_avg"] = moment.to(device=param.device, dtype=_state_dtype(param), copy=True)

    def _is_own(self, state_dict: dict[str, Any]) -> bool:
        """Whether a saved state has all that a step will look up, and nothing that it would ignore."""
        if not {"state", "param_groups"} <= state_dict.keys():
            return False
        return all(
            self.defaults.keys() <= group.keys() and not any(group.get(key) for key in _IGNORED)
            for group in state_dict["param_groups"]
        ) and all("square_avg" in state for state in state_dict["state"].values() if state)


def _state_dtype(param: Tensor) -> torch.dtype:
    """The dtype of the second moment of a parameter."""
    return torch.float64 if param.dtype == torch.float64 else torch.float32
