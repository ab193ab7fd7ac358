"""PyTorch's update rules without its compiler.

The first optimizer of a process imports the compiler (`torch._dynamo`), only to tell it to leave alone what follows. That
takes as long as half of PyTorch itself, in every process that trains. Here are the same methods without that request; what
they compute is PyTorch's. Code that is compiled should have PyTorch's own.
"""

from __future__ import annotations

from inspect import unwrap

import torch


class EagerOptimizer(torch.optim.Optimizer):
    """A base of update rules that are never compiled."""

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)


class SGD(EagerOptimizer, torch.optim.SGD):
    """:class:`torch.optim.SGD`."""

    step = torch.no_grad()(unwrap(torch.optim.SGD.step))


class Adagrad(EagerOptimizer, torch.optim.Adagrad):
    """:class:`torch.optim.Adagrad`."""

    step = torch.no_grad()(unwrap(torch.optim.Adagrad.step))


class Adam(EagerOptimizer, torch.optim.Adam):
    """:class:`torch.optim.Adam`."""

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))
