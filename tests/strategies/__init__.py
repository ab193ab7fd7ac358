"""A small network, random tasks and strategies to test with."""

from __future__ import annotations

import copy
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.config.strategies import (
    AGEMSettings,
    DERppSettings,
    ERSettings,
    EWCSettings,
    GEMSettings,
    LwFSettings,
    MASSettings,
    MultitaskPassesSettings,
    MultitaskSettings,
    NaiveSettings,
    OnlineEWCSettings,
    SISettings,
    StrategySettings,
)
from pipeline.models import TaskModel, TaskTensors
from pipeline.strategies import Batch, Strategy, Stream, build_strategy

#: Three tasks of two classes, each with outputs of its own, or all with the same two.
OWN = [[0, 1], [2, 3], [4, 5]]
SHARED = [[0, 1], [0, 1], [0, 1]]

PLANS = {
    "naive": NaiveSettings(name="naive"),
    "ewc": EWCSettings(name="ewc", ewc_lambda=3.0, fisher="batch", fisher_batch=5, penalty_clip=100.0),
    "ewc-exact": EWCSettings(name="ewc", ewc_lambda=3.0, fisher="exact", penalty_clip=0.0),
    "ewc-published": EWCSettings(name="ewc", ewc_lambda=3.0, fisher="published", fisher_batch=5, penalty_clip=100.0),
    "online-ewc": OnlineEWCSettings(name="online-ewc", ewc_lambda=3.0, fisher_interval=2),
    "online-ewc-long": OnlineEWCSettings(name="online-ewc", ewc_lambda=3.0),
    "si": SISettings(name="si", si_c=0.5),
    "mas": MASSettings(name="mas", mas_lambda=0.5),
    "mas-published": MASSettings(name="mas", mas_lambda=0.5, mas_examples=5, published=True),
    "gem": GEMSettings(name="gem", memory_per_class=2),
    "agem": AGEMSettings(name="agem", memory_per_class=2),
    "agem-extra-forward": AGEMSettings(name="agem", memory_per_class=2, extra_forward=True),
    "agem-memory-batch": AGEMSettings(name="agem", memory_per_class=2, memory_batch=3),
    "er": ERSettings(name="er", memory_per_class=2),
    "er-ring": ERSettings(name="er", memory_per_class=2, memory="ring", one_pass=True),
    "er-one-pass": ERSettings(name="er", memory_per_class=2, one_pass=True, memory_batch=3),
    "derpp": DERppSettings(name="derpp", memory_per_class=2),
    "derpp-memory-batch": DERppSettings(
        name="derpp", memory_per_class=2, memory_batch=3, derpp_alpha=0.3, derpp_beta=0.9
    ),
    "lwf": LwFSettings(name="lwf"),
    "multitask": MultitaskSettings(name="multitask"),
    "multitask-passes": MultitaskPassesSettings(name="multitask-passes", passes=2),
}


def network(classes: list[list[int]] = OWN, normalised: bool = False, seed: int = 0) -> TaskModel:
    """For images of 1x3 pixels, in float32; `normalised` puts in batch normalisation and dropout."""
    torch.manual_seed(seed)
    middle: list[nn.Module] = [nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.2)] if normalised else [nn.Tanh()]
    layers = nn.Sequential(nn.Flatten(), nn.Linear(3, 4), *middle, nn.Linear(4, 1 + max(map(max, classes))))
    mode: Literal["task", "shared"] = "shared" if classes == SHARED else "task"
    return TaskModel(layers, classes, mode)


def random_task(task: int, examples: int = 12, classes: list[list[int]] = OWN, seed: int = 0) -> TaskTensors:
    """Random pixels and labels."""
    generator = torch.Generator().manual_seed(1000 * seed + task)
    pixels = torch.randint(256, (examples, 1, 3), generator=generator, dtype=torch.uint8)
    chosen = torch.randint(len(classes[task]), (examples,), generator=generator)
    return TaskTensors(task, pixels, torch.tensor(classes[task])[chosen])


def batch_of(task: TaskTensors, first: int = 0, count: int = 4) -> Batch:
    """`count` examples in a row."""
    return Batch(task.images[first : first + count], task.labels[first : first + count], task.task)


def strategy(plan: StrategySettings, classes: list[list[int]] = OWN, batch_size: int = 4, seed: int = 0) -> Strategy:
    """The strategy of `plan`, with a random stream of its own."""
    return build_strategy(plan, Stream(classes, batch_size, np.random.default_rng(seed)))


def gradients(own: Strategy, model: TaskModel, batch: Batch) -> list[Tensor]:
    """What the strategy leaves in `.grad` of a copy of the model."""
    model = copy.deepcopy(model)
    own.backward(model, batch)
    found = [parameter.grad for parameter in model.parameters()]
    return [gradient for gradient in found if gradient is not None]
