"""TAG: Task-based Accumulated Gradients (Malviya, Ravindran and Chandar, CoLLAs 2022; arXiv 2105.05155).

TAG is an adaptive update rule for a stream of tasks. For each parameter tensor and each task it keeps a first moment M
(the direction of the task) and a second moment V. The step on task t is scaled by the second moments of all tasks so
far, each weighted by how well the present direction agrees with the direction of that task:

    M_t   <- beta1 M_t + (1 - beta1) g                          from zero at the start of each task
    V_t   <- beta2 V_t + (1 - beta2) g^2   (rmsprop, adam)      likewise;    V_t <- V_t + g^2   (adagrad)
    alpha(t, tau) = exp(-b cos(M_t, M_tau))  for tau < t,  exp(-b) for tau = t;  on the first task alpha = 1
    theta <- theta - lr u / ( sqrt( sum_{tau <= t} alpha(t, tau) V_tau ) + eps )

Here u = g (rmsprop, adagrad), or u = M_t / (1 - beta1^n) with the root divided by sqrt(1 - beta2^n) (adam), where n
counts the steps on the task from 1. A direction shared with an earlier task (cos = 1) makes its alpha small and the
step large; a direction opposed to it makes alpha large and the step small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple, overload

import torch
from torch import Tensor

from .eager import EagerOptimizer
from .tag_update import add_to_banks, update

#: The update rule that TAG follows within a single task.
Base = Literal["rmsprop", "adagrad", "adam"]
#: Default decay of the second moment for each base (Adagrad does not decay).
BETA2 = {"rmsprop": 0.99, "adagrad": 1.0, "adam": 0.999}

#: Entries of a parameter's state that keep their own dtype when a state is loaded.
_MOMENTS = ("direction", "second_moment", "past_directions", "past_second_moments", "step")

#: Of these, a parameter that has had a gradient keeps all but "step", which only base "adam" has.
_ALWAYS_KEPT = frozenset(_MOMENTS) - {"step"}

#: A somewhat larger b makes exp(b) overflow float32, and infinity times a second moment of 0 is NaN.
_LARGEST_B = 80


class _Piece(NamedTuple):
    """The alphas of the last step for parameters that were updated together.

    rows: the positions of these parameters among all. alphas: (parameters, tasks).
    """

    rows: list[int]
    alphas: Tensor


class TAG(EagerOptimizer):
    """The TAG update rule for the parameters of any model.

        theta <- theta - lr u / ( sqrt( sum_{tau <= t} alpha(t, tau) V_tau ) + eps )

    `pipeline.optimizers.tag` defines u, alpha and V. Call `begin_task` before the first step on each task:

        optimizer = TAG(model.named_parameters(), lr=1e-3)
        for task in stream:
            optimizer.begin_task()
            for images, labels in task:
                optimizer.zero_grad()
                loss(model(images), labels).backward()
                optimizer.step()

    Memory: two numbers per parameter for each past task (together the banks), and two for the present task. No step
    copies anything to the host, so a step can be captured in a CUDA graph; capture again after each `begin_task`, which
    makes the banks longer.

    Args:
        params: Parameters, named parameters, or parameter groups; a group may set its own lr, b, betas, eps, maximize
            and bank_dtype. There is no weight decay.
        lr: Learning rate, a float of at least 0 or a tensor without dimensions.
        base: The update rule for a single task: "rmsprop", "adagrad" or "adam".
        b: Sharpness of alpha, from -80 to 80; 0 weights all tasks alike (alpha = 1). The paper uses 5, and 7 on
            5-datasets.
        betas: Decay of the first and of the second moment, each in [0, 1). None: 0.9 for the first, and 0.99 (rmsprop)
            or 0.999 (adam) for the second. With adagrad, which sums its second moments, only the first is used.
        eps: Added to the square root; at least 0.
        maximize: Ascend instead of descend.
        bank_dtype: Dtype in which the moments of past tasks are kept (torch.bfloat16 halves their memory). None: that
            of the state, which is float64 for float64 parameters and float32 for all others.

    Raises:
        ValueError: if a value is out of its range, if a group has a key that TAG does not know or another base, or if a
            parameter is not of a real floating-point dtype.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]],
        lr: float | Tensor,
        base: Base = "rmsprop",
        b: float = 5.0,
        betas: tuple[float, float] | None = None,
        eps: float = 1e-8,
        *,
        maximize: bool = False,
        bank_dtype: torch.dtype | None = None,
    ) -> None:
        if base not in BETA2:
            raise ValueError(f"base must be one of {', '.join(BETA2)}, is {base!r}")
        defaults = {
            "lr": lr,
            "b": b,
            "betas": (0.9, BETA2[base]) if betas is None else tuple(betas),
            "eps": eps,
            "maximize": maximize,
            "base": base,
            "bank_dtype": bank_dtype,
            "tasks": 0,
        }
        self._pieces: list[_Piece] = []
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, which may be done in the middle of a stream.

        Parameters that are added late have no moments of earlier tasks, as though they had not seen them.

        Args:
            param_group: "params", and the values that the group sets for itself: lr, b, betas, eps, maximize, bank_dtype.

        Raises:
            ValueError: if a value is out of its range, if the group has a key that TAG does not know or another base, or
                if a parameter is not of a real floating-point dtype.
        """
        self._refuse_unknown(param_group, "TAG", "lr, b, betas, eps, maximize and bank_dtype")
        # A copy, because PyTorch keeps the dict itself: its count of tasks would go on in the next optimizer made from it.
        param_group = {**param_group, "tasks": self.tasks if self.param_groups else 0}
        group = {**self.defaults, **param_group}
        if group["base"] != self.defaults["base"]:
            raise ValueError(
                f"all parameter groups have the base of the optimizer, {self.defaults['base']!r}: remove the group's own, "
                f"{group['base']!r}, and give it as TAG(..., base=...), or make two optimizers"
            )
        for key in ("lr", "b", "eps"):
            if not isinstance(group[key], (int, float, Tensor)):
                raise ValueError(f"{key} must be a number, is {group[key]!r}")
        lr = group["lr"]
        if lr.dim() > 0 if isinstance(lr, Tensor) else not 0 <= lr < math.inf:
            raise ValueError(f"lr must be a number of at least 0 or a tensor without dimensions, is {lr!r}")
        if not abs(group["b"]) <= _LARGEST_B:
            raise ValueError(f"b must be between {-_LARGEST_B} and {_LARGEST_B}, is {group['b']!r}")
        if len(group["betas"]) != 2:
            raise ValueError(f"betas must be two numbers, are {group['betas']!r}")
        beta1, beta2 = group["betas"]
        if not 0 <= beta1 < 1 or not (0 <= beta2 < 1 or group["base"] == "adagrad"):
            raise ValueError(f"betas must be in [0, 1), are {group['betas']!r}")
        if not 0 <= group["eps"] < math.inf:
            raise ValueError(f"eps must be a number of at least 0, is {group['eps']!r}")
        bank_dtype = group["bank_dtype"]
        if bank_dtype is not None and not (isinstance(bank_dtype, torch.dtype) and bank_dtype.is_floating_point):
            raise ValueError(
                f"bank_dtype must be a floating-point dtype such as torch.bfloat16, or None, is {bank_dtype!r}"
            )
        if bank_dtype is not None and torch.finfo(bank_dtype).tiny > torch.finfo(torch.float32).tiny:
            raise ValueError(
                f"bank_dtype must have the range of float32, which holds squares of gradients; {bank_dtype} has not"
            )
        super().add_param_group(param_group)
        self._refuse_unreal("TAG")

    @property
    def tasks(self) -> int:
        """The number of tasks begun so far.

        A saved state has it, so that a loop which resumes within a task knows not to begin that task again:
        `if optimizer.tasks == number: optimizer.begin_task()`, with `number` counted from 0.
        """
        return max(int(group["tasks"]) for group in self.param_groups)

    @torch.no_grad()
    def begin_task(self) -> None:
        """Begin the next task.

        The direction (at unit length) and the second moment of the present task are appended to the banks of past
        tasks, and the present moments are set to zero. `alphas` cannot be read again before the next step.
        """
        for group in self.param_groups:
            for param in group["params"]:
                state = self.state.get(param)
                if state:
                    add_to_banks(state, group["bank_dtype"])
            group["tasks"] += 1
        self._pieces = []

    @property
    def alpha_names(self) -> list[str]:
        """The names of the rows of `alphas`, one per parameter tensor.

        They are the names of the parameters if these were named, and "group.position" (both from 0) otherwise.
        """
        return [name for name, _ in self._named()]

    @property
    def alphas(self) -> Tensor:
        """The weights alpha(t, tau) of the last step.

        Reading them does not make a GPU wait.

        Returns:
            (parameter tensors, tasks begun), on the device and in the dtype of the state of the first tensor that was
            updated. The last column is the present task. A parameter tensor without a gradient in that step has a row
            of NaN.

        Raises:
            RuntimeError: if no step with gradients was taken since `begin_task`, since a state was loaded, or since the
                optimizer was copied.
        """
        if not self._pieces:
            raise RuntimeError(
                "no step with gradients was taken since begin_task(), load_state_dict() or a copy: there are no alphas yet"
            )
        first = self._pieces[0].alphas
        if len(first) == sum(len(group["params"]) for group in self.param_groups):
            return first  # the common case: every tensor took part, in one update
        rows = [first.new_full((self.tasks,), math.nan)] * len(self.alpha_names)
        for piece in self._pieces:
            for row, alpha in zip(piece.rows, piece.alphas.to(first).unbind(), strict=True):
                rows[row] = alpha
        return torch.stack(rows)

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        for number, group in enumerate(self.param_groups):
            names = group.get("param_names") or [f"{number}.{place}" for place in range(len(group["params"]))]
            yield from zip(names, group["params"], strict=True)

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
            RuntimeError: if `begin_task` was never called, or if a gradient is sparse.
        """
        if self.tasks == 0:
            raise RuntimeError("TAG.step() before begin_task(): call begin_task() before the first step on each task")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:  # all of them before the first is stepped
            for param in group["params"]:
                if param.grad is not None and param.grad.layout != torch.strided:
                    raise RuntimeError("TAG does not take sparse gradients; make them dense")
        self._pieces = []
        first_row = 0
        for group in self.param_groups:
            # One multi-tensor update for all parameters that share a device and a dtype.
            alike: dict[tuple[torch.device, torch.dtype], list[int]] = {}
            for place, param in enumerate(group["params"]):
                if param.grad is not None:
                    alike.setdefault((param.device, param.dtype), []).append(place)
            for places in alike.values():
                params = [group["params"][place] for place in places]
                states = [self._state(param, group) for param in params]
                alphas = update(params, states, group)
                self._pieces.append(_Piece([first_row + place for place in places], alphas))
            first_row += len(group["params"])
        return loss

    def _state(self, param: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        """The state of a parameter, created at its first gradient; tasks before that have moments of zero."""
        state: dict[str, Any] = self.state[param]
        if not state:
            dtype = torch.float64 if param.dtype == torch.float64 else torch.float32
            state["direction"] = torch.zeros_like(param, dtype=dtype, memory_format=torch.contiguous_format)
            state["second_moment"] = torch.zeros_like(state["direction"])
            bank = state["direction"].new_zeros((group["tasks"] - 1, param.numel()), dtype=group["bank_dtype"] or dtype)
            state["past_directions"], state["past_second_moments"] = bank, bank.clone()
            if group["base"] == "adam":
                state["step"] = torch.zeros((), dtype=dtype, device=param.device)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state, bit for bit.

        Tensors move to the device of their parameter. PyTorch would also cast them to the dtype of the parameter; here
        they keep the dtype in which they were saved, because the moments of bfloat16 parameters are float32.

        Args:
            state_dict: What `state_dict` of a TAG optimizer over parameters of the same shapes returned.

        Raises:
            ValueError: if it is not the state of a TAG optimizer, or of one with other groups or other shapes; nothing is
                changed then.
        """
        if not self._is_own(state_dict):
            raise ValueError(
                "this is not a state of TAG (of another optimizer, or of a model?): load what TAG's state_dict() returned"
            )
        saved = [number for group in state_dict["param_groups"] for number in group["params"]]
        own = [param for group in self.param_groups for param in group["params"]]
        for number, param in zip(saved, own, strict=False):  # PyTorch refuses other numbers of parameters
            direction = state_dict["state"].get(number, {}).get("direction")
            if direction is not None and direction.shape != param.shape:
                raise ValueError(
                    f"this is the state of another model: parameter {number} had the shape {tuple(direction.shape)} and has "
                    f"{tuple(param.shape)}"
                )
        super().load_state_dict(state_dict)
        for key in ("base", "betas"):  # of groups that are added later
            self.defaults[key] = self.param_groups[0][key]
        for number, param in zip(saved, own, strict=True):
            for key, value in state_dict["state"].get(number, {}).items():
                if key in _MOMENTS:
                    self.state[param][key] = value.to(device=param.device, copy=True)

    def _is_own(self, state_dict: dict[str, Any]) -> bool:
        """Whether a saved state has all that a step and `begin_task` will look up."""
        if not {"state", "param_groups"} <= state_dict.keys():
            return False
        groups, states = state_dict["param_groups"], state_dict["state"].values()
        return all(self.defaults.keys() <= group.keys() for group in groups) and all(
            state.keys() >= _ALWAYS_KEPT for state in states if state
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copied, unpickled or loaded optimizer: everything but the alphas of its last step."""
        super().__setstate__(state)
        self._pieces = []
