"""TAG: Task-based Accumulated Gradients (Malviya, Ravindran and Chandar, CoLLAs 2022; arXiv 2105.05155).

An adaptive update rule for a stream of tasks. It keeps, for each parameter tensor and each task, one first moment (the
task's direction) and one second moment, and scales the step of task t by second moments weighted with how the present
direction agrees with that of each earlier task:

    M_t   <- beta1 M_t + (1 - beta1) g                          from zero at the start of each task
    V_t   <- beta2 V_t + (1 - beta2) g^2   (rmsprop, adam)      likewise;    V_t <- V_t + g^2   (adagrad)
    alpha(t, tau) = exp(-b cos(M_t, M_tau))  for tau < t,  exp(-b) for tau = t;  on the first task alpha = 1
    theta <- theta - lr u / ( sqrt( sum_tau alpha(t, tau) V_tau ) + eps )

with u = g (rmsprop, adagrad), or u = M_t / (1 - beta1^n) and the root divided by sqrt(1 - beta2^n) (adam), n counting the
steps of the task from 1. A direction that earlier tasks share (cos = 1) makes alpha small and the step large; one that
opposes theirs makes alpha large and the step small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple, overload

import torch
from torch import Tensor

from pipeline.optimizers.eager import EagerOptimizer
from pipeline.optimizers.roots import sqrt_

Base = Literal["rmsprop", "adagrad", "adam"]
BETA2 = {"rmsprop": 0.99, "adagrad": 1.0, "adam": 0.999}

#: Keys of a parameter's state that keep their own dtype when loaded.
_MOMENTS = ("direction", "second_moment", "past_directions", "past_second_moments", "step")

#: Beyond it exp(b) leaves float32, and infinity times a second moment of 0 is NaN.
_LARGEST_B = 80

#: Columns of a bank that are converted at a time where it is kept in another dtype than the state.
_BLOCK = 2**15


class _Piece(NamedTuple):
    """alphas of the last step for some parameters: their numbers, and (parameters, tasks)."""

    rows: list[int]
    alphas: Tensor


class TAG(EagerOptimizer):
    r"""TAG over any parameters; see the module's text for the update.

    Call :meth:`begin_task` before the first step on each task::

        optimizer = TAG(model.named_parameters(), lr=1e-3)
        for task in stream:
            optimizer.begin_task()
            for images, labels in task:
                optimizer.zero_grad()
                loss(model(images), labels).backward()
                optimizer.step()

    Args:
        params: parameters, named parameters, or parameter groups; a group may set its own lr, b, betas, eps, maximize.
        lr: learning rate, a float or a tensor without dimensions.
        base: the update rule of a single task: "rmsprop", "adagrad" or "adam".
        b: sharpness of alpha, from -80 to 80; 0 weights all tasks alike (alpha = 1). The paper uses 5, and 7 on
            5-datasets.
        betas: decay of the first and second moment; by default 0.9, and 0.99 (rmsprop) or 0.999 (adam). Adagrad adds up
            its second moments and takes only the first.
        eps: added to the root.
        maximize: ascend instead of descend.
        bank_dtype: dtype of the moments of past tasks (torch.bfloat16 halves their memory); by default that of the state:
            float64 for float64 parameters, else float32.

    Memory: two numbers a parameter and past task, and two for the present one. No step copies anything to the host, so
    that a step can be captured in a CUDA graph (capture again after each `begin_task`, which makes the banks longer).

    Raises:
        ValueError: for a value out of its range.
        RuntimeError: where `step` is called before `begin_task`.
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
        if bank_dtype is not None and not bank_dtype.is_floating_point:
            raise ValueError(f"bank_dtype must be a floating-point dtype, is {bank_dtype}")
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
        """Add parameters, also in the middle of a stream: earlier tasks then count as unseen by them."""
        if self.param_groups:
            param_group.setdefault("tasks", self.tasks)
        group = {**self.defaults, **param_group}
        lr = group["lr"]
        if lr.dim() > 0 if isinstance(lr, Tensor) else not 0 <= lr < math.inf:
            raise ValueError(f"lr must be a number of at least 0 or a tensor without dimensions, is {lr!r}")
        if not abs(group["b"]) <= _LARGEST_B:
            raise ValueError(f"b must be between {-_LARGEST_B} and {_LARGEST_B}, is {group['b']!r}")
        beta1, beta2 = group["betas"]
        if not 0 <= beta1 < 1 or not (0 <= beta2 < 1 or group["base"] == "adagrad"):
            raise ValueError(f"betas must be in [0, 1), are {group['betas']!r}")
        if not group["eps"] >= 0:
            raise ValueError(f"eps must be at least 0, is {group['eps']!r}")
        super().add_param_group(param_group)
        for param in self.param_groups[-1]["params"]:
            if not param.is_floating_point():
                raise ValueError(f"TAG needs real floating-point parameters, got {param.dtype}")

    @property
    def tasks(self) -> int:
        """Tasks begun so far."""
        return max(int(group["tasks"]) for group in self.param_groups)

    @torch.no_grad()
    def begin_task(self) -> None:
        """Begin the next task: what the present one accumulated moves into the banks, its moments return to zero."""
        for group in self.param_groups:
            for param in group["params"]:
                state = self.state.get(param)
                if state:
                    _bank(state, group["bank_dtype"])
            group["tasks"] += 1
        self._pieces = []

    @property
    def alpha_names(self) -> list[str]:
        """The names of the rows of `alphas`: those of named parameters, else 'group.position'."""
        return [name for name, _ in self._named()]

    @property
    def alphas(self) -> Tensor:
        """alpha(t, tau) of the last step: (parameter tensors, tasks seen), the last column the present task.

        A tensor that took no part in that step (no gradient) has a row of NaN. On the device and in the dtype of the
        first tensor's state; nothing here makes a GPU wait. Raises RuntimeError before the first step of a task.
        """
        if not self._pieces:
            raise RuntimeError("no step was taken since begin_task(): there are no alphas yet")
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
        """One update. closure: re-evaluates the model and returns its loss. Raises RuntimeError before `begin_task`."""
        if self.tasks == 0:
            raise RuntimeError("TAG.step() before begin_task(): call begin_task() before the first step on each task")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._pieces = []
        first_row = 0
        for group in self.param_groups:
            # One multi-tensor update for all parameters that share a device and a dtype.
            alike: dict[tuple[torch.device, torch.dtype], list[int]] = {}
            for place, param in enumerate(group["params"]):
                if param.grad is not None:
                    if param.grad.layout != torch.strided:
                        raise RuntimeError("TAG does not take sparse gradients; make them dense")
                    alike.setdefault((param.device, param.dtype), []).append(place)
            for places in alike.values():
                params = [group["params"][place] for place in places]
                states = [self._state(param, group) for param in params]
                alphas = _update(params, states, group)
                self._pieces.append(_Piece([first_row + place for place in places], alphas))
            first_row += len(group["params"])
        return loss

    def _state(self, param: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        """A parameter's state, made at its first gradient; the tasks before that left it no moments."""
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
        """Continue from `state_dict`, bit for bit; tensors move to the device of their parameter.

        PyTorch would cast the state to the dtype of the parameter; the moments of bfloat16 parameters are float32 and
        stay so.
        """
        super().load_state_dict(state_dict)
        saved = (number for group in state_dict["param_groups"] for number in group["params"])
        own = (param for group in self.param_groups for param in group["params"])
        for number, param in zip(saved, own, strict=True):
            for key, value in state_dict["state"].get(number, {}).items():
                if key in _MOMENTS:
                    self.state[param][key] = value.to(device=param.device, copy=True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a copy, an unpickled or a loaded optimizer: everything but the alphas of its last step."""
        super().__setstate__(state)
        self._pieces = []


def _bank(state: dict[str, Any], dtype: torch.dtype | None) -> None:
    """Append the present task's direction (unit length) and second moment to the banks, and empty them."""
    direction, second_moment = state["direction"], state["second_moment"]
    unit = direction / torch.linalg.vector_norm(direction).clamp_min(_least_length(direction.dtype))
    for bank, value in (("past_directions", unit), ("past_second_moments", second_moment)):
        row = value.reshape(1, -1).to(dtype or value.dtype)
        state[bank] = torch.cat([state[bank], row])
    direction.zero_()
    second_moment.zero_()
    if "step" in state:
        state["step"].zero_()


def _least_length(dtype: torch.dtype) -> float:
    """Where the squares of a length leave `dtype`. A shorter direction counts as none (cosine 0): nothing divides by 0."""
    return math.sqrt(torch.finfo(dtype).tiny)


def _update(params: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]) -> Tensor:
    """One step of parameters that share a device and a dtype. Returns alpha (parameters, tasks)."""
    beta1, beta2 = group["betas"]
    base, lr = group["base"], group["lr"]
    directions = [state["direction"] for state in states]
    second_moments = [state["second_moment"] for state in states]
    dtype = directions[0].dtype
    gradients: list[Tensor] | tuple[Tensor, ...] = [p.grad.to(dtype) for p in params if p.grad is not None]
    if group["maximize"]:
        gradients = torch._foreach_neg(gradients)

    torch._foreach_lerp_(directions, gradients, 1 - beta1)
    if base == "adagrad":
        torch._foreach_addcmul_(second_moments, gradients, gradients)
    else:
        torch._foreach_mul_(second_moments, beta2)
        torch._foreach_addcmul_(second_moments, gradients, gradients, 1 - beta2)

    alphas, roots = _alphas_and_roots(directions, second_moments, states, float(group["b"]))
    numerators = gradients
    if base == "adam":
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1)
        counts = torch.stack(steps)
        corrections = _one_minus_power(beta2, counts)
        sqrt_([corrections])
        torch._foreach_div_(roots, corrections.unbind())
        numerators = torch._foreach_div(directions, _one_minus_power(beta1, counts).unbind())
    torch._foreach_add_(roots, group["eps"])
    if isinstance(lr, Tensor) or params[0].dtype != dtype:
        updates = torch._foreach_div(numerators, roots)
        torch._foreach_mul_(updates, lr)
        torch._foreach_sub_(params, updates)
    else:
        torch._foreach_addcdiv_(params, numerators, roots, -lr)
    return alphas


def _one_minus_power(beta: float, step: Tensor) -> Tensor:
    """1 - beta^step. Written out, float32 would lose four digits at the first steps."""
    return -torch.expm1(step * math.log(beta)) if beta > 0 else torch.ones_like(step)


def _alphas_and_roots(
    directions: list[Tensor], second_moments: list[Tensor], states: list[dict[str, Any]], b: float
) -> tuple[Tensor, list[Tensor] | tuple[Tensor, ...]]:
    """alpha (parameters, tasks), and for each parameter sqrt(sum_tau alpha(t, tau) V_tau).

    Two matrix-vector products a parameter, whatever the number of tasks: with the bank of unit directions, and with the
    transposed bank of second moments.
    """
    past = states[0]["past_directions"].shape[0]
    cosines = directions[0].new_zeros(len(states), past + 1)
    if past == 0:
        roots = [moment.clone() for moment in second_moments]
        sqrt_(roots)
        return cosines.fill_(1), roots
    earlier, present = cosines[:, :-1], cosines[:, -1]
    for row, state, direction in zip(earlier.unbind(), states, directions, strict=True):
        for bank, part in _blocks(state["past_directions"], direction.view(-1)):
            row.addmv_(bank, part)
    lengths = torch.stack(torch._foreach_norm(directions)).unsqueeze(1)
    # Rounding may take a cosine past 1 by a hair.
    earlier.div_(lengths.clamp_min_(_least_length(lengths.dtype))).clamp_(-1, 1)
    present.fill_(1)
    alphas = cosines.mul_(-b).exp_()
    sums = torch._foreach_mul(second_moments, math.exp(-b))
    for total, state, alpha in zip(sums, states, earlier.unbind(), strict=True):
        for bank, part in _blocks(state["past_second_moments"], total.view(-1)):
            part.addmv_(bank.T, alpha)
    sqrt_(sums)
    return alphas, sums


def _blocks(bank: Tensor, vector: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    """`bank` (tasks, n) and `vector` (n,) as they are, or in blocks of columns where the bank's dtype is another.

    Only one block of the bank exists twice at a time, in its own dtype and in the vector's.
    """
    if bank.dtype == vector.dtype:
        return ((bank, vector),)
    columns, parts = torch.split(bank, _BLOCK, dim=1), torch.split(vector, _BLOCK)
    return ((block.to(vector.dtype), part) for block, part in zip(columns, parts, strict=True))
