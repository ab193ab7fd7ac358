"""Strategies: what a method of continual learning adds to the gradient or to the data.

With L the mean cross-entropy of the batch and g its gradient, each strategy leaves in `.grad`:

    naive             g
    ewc               g + clip( 2 lambda F (theta - theta*) )           Kirkpatrick et al. 2017, arXiv 1612.00796
    online-ewc        g + 2 lambda F (theta - theta*)                   Schwarz et al. 2018, arXiv 1805.06370
    si                g + 2 c Omega (theta - theta*)                    Zenke et al. 2017, arXiv 1703.04200
    mas               g + 2 lambda Omega (theta - theta*)               Aljundi et al. 2018, arXiv 1711.09601
    gem               the nearest to g without a negative g . g_k       Lopez-Paz and Ranzato 2017, arXiv 1706.08840
    agem              g - (g . r / r . r) r  where g . r < 0, else g    Chaudhry et al. 2019, arXiv 1812.00420
    er                g + the gradient of a memory batch's loss         Chaudhry et al. 2019, arXiv 1902.10486
    derpp             er's, and that of a squared distance of logits    Buzzega et al. 2020, arXiv 2004.07211
    lwf               g + that of a distillation of old outputs         Li and Hoiem 2016, arXiv 1606.09282
    multitask         g of batches that mix the examples of all tasks
    multitask-passes  g, in several passes over the tasks in sequence

F is the diagonal Fisher information, Omega another measure of how much a weight matters to earlier tasks, theta* the weights
after the task learnt last, r the gradient of the loss of a memory batch, and g_k that of the memory of an earlier task. The
settings of each strategy are a class in `pipeline.config.strategies`. Any strategy goes with any update rule and any regime.

An example that runs as it stands, on a stream of two tasks with one batch each:

    import numpy as np
    import torch
    from pipeline.config.strategies import ERSettings
    from pipeline.models import TaskModel, TaskTensors
    from pipeline.strategies import Batch, Stream, build_strategy

    outputs = [[0, 1], [2, 3]]  # for each task, the outputs of its two classes
    model = TaskModel(torch.nn.Linear(5, 4), outputs, "task")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    stream = Stream(outputs, batch_size=10, generator=np.random.default_rng(1))
    strategy = build_strategy(ERSettings(name="er", memory_per_class=5), stream)
    for number, own in enumerate(outputs):
        task = TaskTensors(number, torch.rand(10, 5), torch.tensor(own).repeat(5))
        strategy.begin_task(task)
        optimizer.zero_grad()
        loss = strategy.backward(model, Batch(task.images, task.labels, number))
        optimizer.step()
        strategy.after_step(model)
        strategy.end_task(model, task)
        print(f"task {number + 1}: loss {loss:.3f}")

Public members:

- `Strategy`: the interface, and the base class of every strategy.
- `Batch`: the examples of one step: images, labels and task.
- `Stream`: what a strategy needs to know of the stream: outputs of each task, batch size, random generator.
- `build_strategy`: the strategy that goes with given settings.
- `STRATEGIES`: the registry, from each class of settings to the class of its strategy.

The strategies, each in a module of its own:

- `naive.Naive`: plain fine-tuning.
- `ewc.EWC`: elastic weight consolidation, with the Fisher information of `fisher`.
- `online_ewc.OnlineEWC`: EWC with a moving average of squared gradients.
- `si.SI`: synaptic intelligence, which weighs by the fall of the loss on a weight's path.
- `mas.MAS`: memory aware synapses, which weighs by the reaction of the outputs to a weight.
- `gem.GEM`: gradient episodic memory, with the `memory.Ring`.
- `agem.AGEM`: averaged gradient episodic memory, with the `memory.Ring`.
- `er.ER`: experience replay, with the `memory.Reservoir` or the `memory.Ring`.
- `derpp.DERpp`: dark experience replay with labels, with the `memory.LogitReservoir`.
- `lwf.LwF`: learning without forgetting, which keeps a copy of the network instead of examples.
- `multitask.Multitask` and `multitask.MultitaskPasses`: the upper bound, from joint batches or from passes in sequence.
- `penalty.Penalised`: the base class of strategies with a quadratic penalty.
- `per_example`: the gradients of single examples, of which `mas.MAS` takes the absolute values.
- `remembering.Remembering`: the base class of strategies with a memory.
- `published`: what the papers' code does differently from the papers.
"""

from __future__ import annotations

from typing import Any

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
from pipeline.strategies.agem import AGEM
from pipeline.strategies.batch import Batch, Stream
from pipeline.strategies.derpp import DERpp
from pipeline.strategies.er import ER
from pipeline.strategies.ewc import EWC
from pipeline.strategies.gem import GEM
from pipeline.strategies.lwf import LwF
from pipeline.strategies.mas import MAS
from pipeline.strategies.multitask import Multitask, MultitaskPasses
from pipeline.strategies.naive import Naive
from pipeline.strategies.online_ewc import OnlineEWC
from pipeline.strategies.si import SI
from pipeline.strategies.strategy import Strategy
from pipeline.support.errors import UserError

__all__ = [
    "AGEM",
    "ER",
    "EWC",
    "GEM",
    "MAS",
    "SI",
    "STRATEGIES",
    "Batch",
    "DERpp",
    "LwF",
    "Multitask",
    "MultitaskPasses",
    "Naive",
    "OnlineEWC",
    "Strategy",
    "Stream",
    "build_strategy",
]

#: The strategy for each class of settings.
STRATEGIES: dict[type[StrategySettings], type[Strategy]] = {
    NaiveSettings: Naive,
    EWCSettings: EWC,
    OnlineEWCSettings: OnlineEWC,
    SISettings: SI,
    MASSettings: MAS,
    GEMSettings: GEM,
    AGEMSettings: AGEM,
    ERSettings: ER,
    DERppSettings: DERpp,
    LwFSettings: LwF,
    MultitaskSettings: Multitask,
    MultitaskPassesSettings: MultitaskPasses,
}


def build_strategy(plan: StrategySettings, stream: Stream) -> Strategy:
    """Build the strategy that goes with the given settings.

    Args:
        plan: An instance of one of the classes of settings in `STRATEGIES`.
        stream: What the strategy needs to know of the stream.

    Raises:
        UserError: if no strategy is registered for the class of `plan`.
    """
    kind = type(plan)
    if kind not in STRATEGIES:
        raise UserError(
            f"strategy '{plan.name}' has settings, {kind.__name__}, but no line in STRATEGIES of "
            "pipeline/strategies/__init__.py; add it"
        )
    build: Any = STRATEGIES[kind]  # each takes its own class of settings
    strategy: Strategy = build(plan, stream)
    return strategy
