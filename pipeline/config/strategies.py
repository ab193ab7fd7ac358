"""The settings of each strategy.

To add a strategy, declare its settings as a class here, implement it in a module of `pipeline.strategies`, and add it
to the registry in `pipeline/strategies/__init__.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.config.types import Chosen, Count, Flag, Weight, setting

#: Settings that several strategies share.
EWC_LAMBDA = "weight of the penalty λ Σ F (θ − θ*)²"
MEMORY_PER_CLASS = setting("examples kept for each class of each task, in a ring or a reservoir", 1)
MEMORY_BATCH = setting("examples of the memory in a step; null: as many as in a batch", None)


class StrategySettings(Chosen):
    """Base of the settings of every strategy: what a method adds to the gradient or to the data."""

    name: Any


class NaiveSettings(StrategySettings):
    """Plain fine-tuning, one task after the other, which has no settings."""

    name: Literal["naive"]


class EWCSettings(StrategySettings):
    """Settings of EWC, elastic weight consolidation.

    With the exact Fisher information, which takes all training examples, `fisher_batch` is always None.
    """

    name: Literal["ewc"]
    ewc_lambda: Weight = setting(EWC_LAMBDA)
    fisher: Literal["batch", "exact", "published"] = setting(
        "batch: the running mean over the tasks of the squared gradient of the mean loss of one batch. exact: the "
        "textbook's, the mean over all training examples of the task, and over the classes by their probability. "
        "published: as in TAG's code, one batch, but with the logits masked for the *next* task, and the last task weighing "
        "t/(t + 1) after task t",
        "batch",
    )
    fisher_batch: Count | None = setting("examples of that one batch", 200)
    penalty_clip: Weight = setting("norm that the penalty's gradient is clipped to; 0 for none", 100.0)

    @model_validator(mode="after")
    def _exact_takes_all(self) -> EWCSettings:
        if self.fisher == "exact":
            self.__dict__["fisher_batch"] = None
        return self


class AGEMSettings(StrategySettings):
    """Settings of A-GEM, averaged gradient episodic memory."""

    name: Literal["agem"]
    memory_per_class: Count = MEMORY_PER_CLASS
    memory_batch: Count | None = MEMORY_BATCH
    extra_forward: Flag = setting(
        "true: the batch goes through the network once more, before the memory's, as in TAG's code; it then counts twice in "
        "the running statistics of batch normalisation ([what it does](reproductions.md#tag-split-cifar100))",
        None,
    )


class ERSettings(StrategySettings):
    """Settings of ER, experience replay.

    A plan has the key `memory` only for a ring: with a reservoir it is None.
    """

    name: Literal["er"]
    memory_per_class: Count = MEMORY_PER_CLASS
    memory: Literal["reservoir", "ring"] | None = setting(
        "reservoir (also if null): an even sample of all examples so far. ring: the last examples of each class, of earlier "
        "tasks alone",
        None,
    )
    one_pass: Flag = setting(
        "true: the batch and the memory's go through the network as one, and the loss is the mean over both, as in the "
        "authors' code, and a reservoir is replayed from the second step of the stream on; else two passes, and the sum "
        "of two means",
        None,
    )
    memory_batch: Count | None = MEMORY_BATCH

    @model_validator(mode="after")
    def _a_reservoir_is_left_out(self) -> ERSettings:
        if self.memory == "reservoir":
            self.__dict__["memory"] = None
        return self


class OnlineEWCSettings(StrategySettings):
    """Settings of online EWC."""

    name: Literal["online-ewc"]
    ewc_lambda: Weight = setting(EWC_LAMBDA, 10.0)  # F is in [0, 1], on every benchmark
    fisher_interval: Count = setting("steps over which squared gradients are averaged", 50)
    fisher_decay: Annotated[float, Field(gt=0, le=1)] = setting(
        "share of the newest such average in the moving average that weighs the penalty", 0.9
    )


class SISettings(StrategySettings):
    """Settings of SI, synaptic intelligence."""

    name: Literal["si"]
    si_c: Weight = setting("weight of the penalty c Σ Ω (θ − θ*)²", 0.1)
    damping: Annotated[float, Field(gt=0, le=1e6)] = setting(
        "ξ, added to the squared distance that a weight has gone before the fall of the loss is divided by it", 1e-3
    )


class MASSettings(StrategySettings):
    """Settings of MAS, memory aware synapses."""

    name: Literal["mas"]
    mas_lambda: Weight = setting("weight of the penalty λ Σ Ω (θ − θ*)²", 0.1)
    mas_examples: Count | None = setting("training examples of a task that Ω is taken on; null: all", None)
    published: Flag = setting(
        "true: as in the code of A-GEM's authors, Ω of the last task replaces that of earlier ones, to which it is else "
        "added, and is made of the absolute gradients of ten examples together, which cancel in part, over their number",
        None,
    )


class GEMSettings(StrategySettings):
    """Settings of GEM, gradient episodic memory."""

    name: Literal["gem"]
    memory_per_class: Count = MEMORY_PER_CLASS
    margin: Weight = setting(
        "least weight of an earlier task's gradient where the gradient is projected: how far it turns towards earlier tasks",
        0.5,
    )


class DERppSettings(StrategySettings):
    """Settings of DER++, dark experience replay with labels."""

    name: Literal["derpp"]
    memory_per_class: Count = MEMORY_PER_CLASS
    memory_batch: Count | None = MEMORY_BATCH
    derpp_alpha: Weight = setting("α, weight of the squared distance to the logits in memory", 0.5)
    derpp_beta: Weight = setting("β, weight of the loss of examples in memory", 0.5)


class LwFSettings(StrategySettings):
    """Settings of LwF, learning without forgetting."""

    name: Literal["lwf"]
    lwf_lambda: Weight = setting("weight of the distillation of the old network's outputs", 1.0)
    temperature: Annotated[float, Field(gt=0, le=1000)] = setting("of the distilled probabilities", 2.0)


class MultitaskSettings(StrategySettings):
    """Multi-task learning on batches that mix the examples of all tasks, which has no settings."""

    name: Literal["multitask"]


class MultitaskPassesSettings(StrategySettings):
    """Settings of multi-task learning as several passes over the tasks in sequence.

    If `visits` is given, it replaces `passes`, which is then None.
    """

    name: Literal["multitask-passes"]
    passes: Count | None = setting("passes over the tasks in sequence", 6)
    visits: Count | None = setting(
        "instead of passes: so many visits of tasks drawn at random (an earlier version of TAG's code: 100)", None
    )

    @model_validator(mode="after")
    def _visits_stand_in_place_of_passes(self) -> MultitaskPassesSettings:
        if self.visits is not None:
            self.__dict__["passes"] = None
        return self


if TYPE_CHECKING:
    Strategy = StrategySettings
    StrategyName = str
else:
    Strategy = StrategySettings.union()
    StrategyName = StrategySettings.names()
