"""Optimizers for a stream of tasks: TAG, RMSprop, Stable SGD's rate, and a builder that knows every update rule by name.

TAG keeps one direction M and one second moment V for each task. Its step on task t is

    alpha(t, tau) = exp(-b cos(M_t, M_tau))  for tau < t,  exp(-b) for tau = t;  on the first task alpha = 1
    theta <- theta - lr u / ( sqrt( sum_{tau <= t} alpha(t, tau) V_tau ) + eps )

where u is the gradient (or, with base "adam", the bias-corrected direction). `pipeline.optimizers.tag` has the whole
update. Source: Malviya, Ravindran and Chandar, CoLLAs 2022; arXiv 2105.05155.

An example that runs as it stands, on a stream of three tasks with ten batches each:

    import torch
    from torch import nn
    from pipeline.optimizers import TAG

    model = nn.Linear(4, 2)
    stream = [[(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(10)] for _ in range(3)]

    optimizer = TAG(model.named_parameters(), lr=1e-3, base="rmsprop", b=5.0)
    for task in stream:
        optimizer.begin_task()  # before the first step on each task
        for inputs, labels in task:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
    print(dict(zip(optimizer.alpha_names, optimizer.alphas.tolist())))  # alpha(3, tau) by parameter tensor

Public members:

- `TAG`: the optimizer above, a `torch.optim.Optimizer` for any model.
- `RMSprop`: RMSprop whose square root is the same number on every processor.
- `build_optimizer`: builds "sgd", "rmsprop", "adagrad", "adam" or "tag" from its name and values.
- `stable_lr`: the learning rate of Stable SGD on each task, for `torch.optim.SGD`.
- `begin_task`: announces the next task to any optimizer; only those that need to know of tasks react.

On a CPU, every update rule of `build_optimizer` is written to give the same bits on every processor when it is given
the same gradients (docs/portable.md says what was tried). The package imports only torch and numpy, so it can be copied
into another project.
"""

from .build import build_optimizer
from .rmsprop import RMSprop
from .stable import stable_lr
from .tag import TAG
from .tasks import begin_task

__all__ = ["TAG", "RMSprop", "begin_task", "build_optimizer", "stable_lr"]
