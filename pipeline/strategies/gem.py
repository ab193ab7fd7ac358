"""GEM: gradient episodic memory (Lopez-Paz and Ranzato 2017, arXiv 1706.08840)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config.strategies import GEMSettings
from pipeline.models import TaskModel, TaskTensors
from pipeline.strategies.batch import Batch, Stream, cross_entropy, trained
from pipeline.strategies.memory import Ring
from pipeline.strategies.remembering import Remembering

#: Added to the diagonal of the Gram matrix, as in the authors' code: gradients of similar tasks make it nearly singular.
RIDGE = 1e-3


class GEM(Remembering[Ring]):
    """The gradient, projected if it conflicts with that of the memory of any earlier task.

        min |x - g|^2   with   x . g_k >= 0 for every earlier task k     (GEM, eq. 10)

    g_k is the gradient of the mean loss of everything that the memory holds of task k. The memory is a ring of the last
    `memory_per_class` examples of each class of each task. For how the problem is solved, and for `margin`, see
    `multipliers`. A step takes one pass through the network for each earlier task.

    Args:
        plan: The settings.
        stream: What the strategy needs to know of the stream.

    Attributes:
        slots: For each earlier task of which there are examples, its number and the slots of the memory that hold them.
    """

    plan: GEMSettings

    def __init__(self, plan: GEMSettings, stream: Stream) -> None:
        super().__init__(plan, stream, Ring(plan.memory_per_class, stream.classes, stream.generator))
        self.slots: list[tuple[int, Tensor]] = []

    def begin_task(self, task: TaskTensors) -> None:
        """Take the gradients of the tasks that came before this one from now on, of all but itself.

        Args:
            task: The training data of the task.
        """
        super().begin_task(task)
        self.slots = self.memory.slots_of_tasks(task.task)

    def backward(self, model: TaskModel, batch: Batch) -> Tensor:
        """Leave the projected gradient in `.grad` (on the first task the plain one), and add the batch to the memory.

        The only numbers that go to the host are the products of the gradients with each other.

        Args:
            model: The network.
            batch: The examples of this step.

        Returns:
            The loss of the batch alone, detached.

        Raises:
            ValueError: if the batch is of another task than the one begun.
        """
        self.refuse_other_tasks(batch)
        parameters = trained(model)
        references = []
        for task, slots in self.slots:
            remembered = cross_entropy(model, self.memory.at(slots)._replace(task=task))
            gradients = torch.autograd.grad(remembered, parameters, allow_unused=True)
            references.append(_vector(parameters, gradients))
        loss = cross_entropy(model, batch)
        torch.autograd.backward(loss)
        if references:
            gradient = _vector(parameters, [parameter.grad for parameter in parameters])
            projected = project(gradient, torch.stack(references), self.plan.margin)
            if projected is not None:
                parts = torch.split(projected, [parameter.numel() for parameter in parameters])
                for parameter, part in zip(parameters, parts, strict=True):
                    parameter.grad = part.view_as(parameter)
        self.memory.add(batch)
        return loss.detach()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        super().load_state_dict(state)
        self.slots = self.memory.slots_of_tasks(self.task)


def project(gradient: Tensor, references: Tensor, margin: float) -> Tensor | None:
    """The gradient moved so that it conflicts with no reference; None if it conflicts with none as it is.

        g + G^T v     with v as `multipliers` gives it

    Args:
        gradient: (parameters,) g.
        references: (k, parameters) G, one gradient per row.
        margin: At least 0, see `multipliers`.

    Returns:
        (parameters,), or None if no product of `gradient` with a row of `references` is negative, or if any number is
        NaN or infinite.
    """
    products = torch.cat([references @ references.T, (references @ gradient)[:, None]], dim=1)
    host = products.cpu().double().numpy()
    # Numbers that are not finite are left to the check of the loss, which names method, seed and step.
    if not np.isfinite(host).all() or not (host[:, -1] < 0).any():
        return None
    found = multipliers(host[:, :-1], host[:, -1], margin)
    return torch.addmv(gradient, references.T, torch.from_numpy(found).to(gradient))


def multipliers(gram: NDArray[np.float64], products: NDArray[np.float64], margin: float) -> NDArray[np.float64]:
    """The solution v of the dual of GEM's projection.

        min 1/2 v^T (G G^T + 1e-3 I) v + (G g)^T v   with   v >= margin     (GEM, eq. 11)

    A positive margin moves the gradient further than is needed to remove the conflict, towards earlier tasks. With
    v = margin + u and G G^T + 1e-3 I = L L^T this is min |L^T u + L^-1 (G g + (L L^T) margin)|^2 with u >= 0, a
    non-negative least-squares problem. Lawson and Hanson's active-set algorithm (`scipy.optimize.nnls`) solves it exactly
    in finitely many steps, whereas `scipy.optimize.lsq_linear` iterates to a tolerance by default and takes several
    times as long.

    Args:
        gram: (k, k) G G^T, the products of the references with each other.
        products: (k,) G g, their products with the gradient.
        margin: The least value of v.

    Returns:
        (k,) v.
    """
    # Imported here because it takes as long as many steps, and only GEM needs it.
    from scipy.linalg import solve_triangular
    from scipy.optimize import nnls

    gram = (gram + gram.T) / 2
    ridge = RIDGE
    while True:
        matrix = gram + ridge * np.eye(len(gram))
        try:
            lower = np.linalg.cholesky(matrix)
            break
        except (
            np.linalg.LinAlgError
        ):  # G G^T is rounded to float32: long references in one plane can outweigh the ridge
            ridge *= 10
    target = solve_triangular(lower, products + matrix.sum(axis=1) * margin, lower=True)
    above, _ = nnls(lower.T, -target)
    return np.asarray(margin + above, dtype=np.float64)


def _vector(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> Tensor:
    """Gradients as one vector, with zeros for a parameter that has none."""
    return torch.cat(
        [
            (torch.zeros_like(parameter) if gradient is None else gradient).flatten()
            for parameter, gradient in zip(parameters, gradients, strict=True)
        ]
    )
