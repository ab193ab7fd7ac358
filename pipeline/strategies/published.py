"""What the papers' code does differently from the papers.

Each function is one such quirk, which a setting of the strategy that has it switches on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.models import TaskModel, evaluating
from pipeline.strategies.batch import Batch
from pipeline.strategies.fisher import squared_gradient


@torch.no_grad()
def extra_forward(model: TaskModel, batch: Batch) -> None:
    """Pass a batch through the network and discard the result, as TAG's code of A-GEM does (`extra_forward: true`).

    This happens before the pass of the memory batch. It changes only the running statistics of batch normalisation, in
    which the present task then counts twice as much as the earlier ones; with dropout, it also draws masks.

    Args:
        model: The network.
        batch: The examples of this step.
    """
    model(batch.images, batch.task)


def fisher(model: TaskModel, batch: Batch, following: int, outputs: list[int]) -> list[Tensor]:
    """What TAG's code of EWC uses as the Fisher information (`fisher: published`).

        F_i = ( d/d theta_i  mean_x [ log sum_{c in outputs} exp(z_c) - z_y ] )^2     z the logits of x, y its label

    This is the squared gradient of the mean loss of one batch, but with the logits masked for the next task instead of
    for the batch's own. In TAG's code the mask is written to the logits past automatic differentiation, so that the
    masked logits keep their gradient, which gives the formula above. Therefore F does not vanish where the task is
    learnt.

    Args:
        model: The network; it is put in eval mode for the computation.
        batch: Examples of the task that has just ended.
        following: The number of the next task, from 0.
        outputs: The indices of the network's outputs that stand for the classes of the next task.

    Returns:
        One tensor per trained parameter.
    """
    with evaluating(model):
        wrong = model(batch.images, following)[:, outputs].logsumexp(dim=1)
        right = model(batch.images, batch.task).gather(1, batch.labels[:, None])[:, 0]
        return squared_gradient(model, (wrong - right).mean())


def share(tasks: int) -> float:
    """The weight of the newest task in the running mean of the Fisher information in TAG's code of EWC.

        t / (t + 1)     where a mean would have 1 / t

    Args:
        tasks: t, the number of tasks so far, the newest included.

    Returns:
        The weight, a fraction.
    """
    return tasks / (tasks + 1)
