"""Does the quadratic model of a task's loss predict what later tasks cost it?

    L_t(w_s) - L_t(w_t)  =  g_t^T d + d^T H_t d / 2 + O(|d|^3),    d = w_s - w_t          (Stable SGD, section 3)

with the loss L_t of task t, its gradient g_t and its Hessian H_t right after the task was learnt at w_t, and the weights
w_s after a later task s. Weights are all that moves in it: running statistics of batch normalisation, which change as
well, are no part of the model, though of the losses that it is compared with. The paper bounds the quadratic term by
lambda_1 |d|^2 / 2. The loss along the straight line from w_t to w_s shows how far the model holds, and whether the two
minima are linearly connected (Mirzadeh et al. 2021, arXiv 2010.04495).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pipeline.curvature import SymmetricOperator
from pipeline.models import TaskModel, TaskTensors
from pipeline.support.files import significant
from pipeline.training.evaluation import evaluate

#: Points of a line, both ends included.
POINTS = 11


def terms(operator: SymmetricOperator, gradient: Tensor, moved: Tensor) -> dict[str, float]:
    """Compute the two terms of the quadratic model, for JSON.

    Args:
        operator: H_t, (n, n), or the matrix that stands for it.
        gradient: g_t, (n,) float64.
        moved: d, (n,) float64.

    Returns:
        `gradient_term`, g_t^T d, and `quadratic_term`, d^T H_t d / 2, in nats.
    """
    product = operator.matvec(moved.to(operator.dtype)).double()
    return {
        "gradient_term": significant(float(gradient @ moved)),
        "quadratic_term": significant(float(moved @ product) / 2),
    }


def line(
    model: TaskModel,
    examples: TaskTensors,
    start: Mapping[str, Tensor],
    end: Mapping[str, Tensor],
    at_start: tuple[float, float],
) -> dict[str, list[float]]:
    """Evaluate a task at equal distances along the line between two states of the model, both ends included.

    The running statistics of batch normalisation move along the line like the weights, so that the line ends where the
    later task left the network. Afterwards the model has the state `end`.

    Args:
        model: The model; its state is replaced.
        examples: The examples to evaluate on.
        start: The state of the model at the first point.
        end: That at the last point.
        at_start: Accuracy and loss at the first point, as `evaluate` gives them: they are those of many lines.

    Returns:
        `line_loss`, the mean cross-entropies in nats, and `line_accuracy`, fractions, of `POINTS` points.
    """
    found = [at_start]
    for point in range(1, POINTS):
        share = point / (POINTS - 1)
        model.load_state_dict({name: _between(value, end[name], share) for name, value in start.items()})
        found.append(evaluate(model, examples))
    return {
        "line_loss": [significant(loss) for _, loss in found],
        "line_accuracy": [round(accuracy, 6) for accuracy, _ in found],
    }


def state_of(model: TaskModel) -> dict[str, Tensor]:
    """Copy the state of a model: its weights, and its buffers, such as the statistics of batch normalisation."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _between(start: Tensor, end: Tensor, share: float) -> Tensor:
    """The point between two tensors; of whole numbers, such as counters and masks, the nearer end."""
    if not start.is_floating_point():
        return start if share < 0.5 else end
    return torch.lerp(start, end, share)


def layers(model: TaskModel) -> dict[str, list[Tensor]]:
    """List the layers of a network, each with its own parameters: the blocks of its Hessian.

    Returns:
        Name of each module that has parameters of its own, as in the checkpoints -> these parameters.
    """
    found = {
        name: [parameter for parameter in module.parameters(recurse=False) if parameter.requires_grad]
        for name, module in model.network.named_modules()
    }
    return {name: parameters for name, parameters in found.items() if parameters}


def moments_entry(moments: Any) -> dict[str, float]:
    """Round a `pipeline.curvature.Moments` for JSON; errors that a single probe does not have are left out."""
    values = {
        "trace": significant(moments.trace),
        "frobenius": significant(moments.frobenius),
        "products": moments.matvecs,
    }
    if moments.trace_error is not None:
        values["trace_error"] = significant(moments.trace_error, 2)
        values["frobenius_error"] = significant(moments.frobenius_error, 2)
    return values
