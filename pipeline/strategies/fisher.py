"""The diagonal of the Fisher information of a network's outputs, and a common approximation of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.models import TaskModel, TaskTensors, evaluating
from pipeline.strategies.batch import Batch, cross_entropy, trained

#: Most numbers that the per-example gradients may hold in memory at a time; their squares take as many again.
BUDGET = 2**25


def batch_fisher(model: TaskModel, batch: Batch) -> list[Tensor]:
    """The squared gradient of the mean loss of one batch, a common approximation of the Fisher information.

        F_i = ( d/d theta_i  mean_x [ -log p(y_x | x) ] )^2

    Its value decreases with the size of the batch, and its expectation is not the Fisher information.

    Args:
        model: The network; it is put in eval mode for the computation.
        batch: The examples.

    Returns:
        One tensor per trained parameter.
    """
    with evaluating(model):
        return squared_gradient(model, cross_entropy(model, batch))


def squared_gradient(model: TaskModel, loss: Tensor) -> list[Tensor]:
    """(d loss / d theta)^2.

    Args:
        model: The network.
        loss: A scalar with a graph.

    Returns:
        One tensor per trained parameter, zeros for a parameter that the loss does not use.
    """
    parameters = trained(model)
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient.detach() ** 2
        for parameter, gradient in zip(parameters, gradients, strict=True)
    ]


def exact_fisher(model: TaskModel, task: TaskTensors, outputs: Sequence[int]) -> list[Tensor]:
    """The diagonal of the Fisher information over all examples of a task and all its classes.

        F_i = mean_x sum_y p(y | x) ( d log p(y | x) / d theta_i )^2

    Args:
        model: The network; it is put in eval mode for the computation.
        task: The examples.
        outputs: The indices of the network's outputs that stand for the classes y of the task.

    Returns:
        One tensor per trained parameter.
    """
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    trained = {name: parameters.pop(name) for name in names}
    buffers = dict(model.named_buffers())
    labels = torch.tensor(list(outputs), device=task.labels.device)

    def log_probability(trained: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = torch.func.functional_call(model, (trained, parameters, buffers), (image[None], task.task))
        return F.log_softmax(logits, dim=1)[0].gather(0, label[None])[0]

    scores = torch.func.vmap(  # the outer one over examples, the inner one over classes
        torch.func.vmap(torch.func.grad_and_value(log_probability), in_dims=(None, None, 0)), in_dims=(None, 0, None)
    )
    total = {name: torch.zeros_like(parameter) for name, parameter in trained.items()}
    with evaluating(model):
        for images in torch.split(task.images, _chunk(trained, len(outputs))):
            gradients, values = scores(trained, images, labels)
            for name, gradient in gradients.items():
                total[name] += torch.einsum("nc,nc...->...", values.exp(), gradient**2)
    return [total[name] / len(task) for name in names]


def _chunk(trained: dict[str, Tensor], classes: int) -> int:
    """The number of examples whose gradients, one per class, fit into the budget; at least 1."""
    return max(1, BUDGET // (classes * sum(parameter.numel() for parameter in trained.values())))
