"""The arithmetic of TAG: one step on parameters that are updated together, and the banks of past tasks.

`pipeline.optimizers.tag` has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .roots import sqrt_

#: Columns of a bank that are converted at a time, if the bank has another dtype than the state.
_BLOCK = 2**15


def add_to_banks(state: dict[str, Any], dtype: torch.dtype | None) -> None:
    """Append the present task's direction (at unit length) and second moment to the banks, and zero them."""
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
    """The length whose square is the smallest normal number of `dtype`.

    A shorter direction counts as no direction (cosine 0), so that nothing is divided by 0.
    """
    return math.sqrt(torch.finfo(dtype).tiny)


def update(params: list[Tensor], states: list[dict[str, Any]], group: dict[str, Any]) -> Tensor:
    """Take one step on parameters that share a device and a dtype; return alpha, (parameters, tasks)."""
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
    """1 - beta^step by expm1: the plain formula would lose four digits in float32 at the first steps."""
    return -torch.expm1(step * math.log(beta)) if beta > 0 else torch.ones_like(step)


def _alphas_and_roots(
    directions: list[Tensor], second_moments: list[Tensor], states: list[dict[str, Any]], b: float
) -> tuple[Tensor, list[Tensor] | tuple[Tensor, ...]]:
    """alpha, (parameters, tasks), and for each parameter sqrt(sum_tau alpha(t, tau) V_tau).

    This takes two matrix-vector products per parameter tensor, whatever the number of tasks: one with the bank of unit
    directions, and one with the transposed bank of second moments.
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
    # Rounding may take a cosine slightly past 1.
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
    """`bank` (tasks, n) and `vector` (n,) whole if they share a dtype, else in blocks of columns in the vector's dtype.

    Only one block of the bank is in memory twice at a time, in its own dtype and in the vector's.
    """
    if bank.dtype == vector.dtype:
        return ((bank, vector),)
    columns, parts = torch.split(bank, _BLOCK, dim=1), torch.split(vector, _BLOCK)
    return ((block.to(vector.dtype), part) for block, part in zip(columns, parts, strict=True))
