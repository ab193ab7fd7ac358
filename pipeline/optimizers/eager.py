"""PyTorch's update rules without the import of its compiler.

The first optimizer that a process creates imports the compiler (`torch._dynamo`), only to tell it not to compile the
methods of optimizers. That import takes half as long as importing PyTorch itself, in every process that trains. The
classes here have the same methods without that request to the compiler, and compute what PyTorch's compute. Code that
is compiled should use PyTorch's own classes.
"""

from __future__ import annotations

from inspect import unwrap

import torch


class EagerOptimizer(torch.optim.Optimizer):
    """Base class of update rules that are never compiled."""

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)


class SGD(EagerOptimizer, torch.optim.SGD):
    """`torch.optim.SGD`, without the import of the compiler."""

    step = torch.no_grad()(unwrap(torch.optim.SGD.step))


class Adagrad(EagerOptimizer, torch.optim.Adagrad):
    """`torch.optim.Adagrad`, without the import of the compiler."""

    step = torch.no_grad()(unwrap(torch.optim.Adagrad.step))


class Adam(EagerOptimizer, torch.optim.Adam):
    """`torch.optim.Adam`, without the import of the compiler."""

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))
