"""What the papers' code does otherwise than the papers say: quirks, as settings of the methods that have them."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.models import TaskModel
from pipeline.strategies.batch import Batch
from pipeline.strategies.fisher import evaluating, squared_gradient


@torch.no_grad()
def extra_forward(model: TaskModel, batch: Batch) -> None:
    """The pass of a batch whose result TAG's code of A-GEM throws away, before the memory's (`extra_forward: true`).

    All that it changes is the running statistics of batch normalisation, in which the present task then counts twice as much
    as the earlier ones; and, with dropout, it draws masks.
    """
    model(batch.images, batch.task)


def fisher(model: TaskModel, batch: Batch, following: int, outputs: list[int]) -> list[Tensor]:
    """What TAG's code of EWC takes for the Fisher information (`fisher: published`).

    The squared gradient of the mean loss of one batch, with the logits masked for the next task, `following`, instead of
    their own. There the mask is written past automatic differentiation, so that the masked logits keep their gradient: it is
    that of log sum_c exp(z_c) - z_y, c over `outputs`, those of the next task, and y the label. So it does not vanish where
    the task is learnt.
    """
    with evaluating(model):
        wrong = model(batch.images, following)[:, outputs].logsumexp(dim=1)
        right = model(batch.images, batch.task).gather(1, batch.labels[:, None])[:, 0]
        return squared_gradient(model, (wrong - right).mean())


def share(tasks: int) -> float:
    """The weight of the newest task in the running mean of EWC, the `tasks`-th: t / (t + 1), where a mean has 1 / t."""
    return tasks / (tasks + 1)
