"""How a method is trained: learning-rate decay, dropout, batch size and epochs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.types import Count, Flag, Fraction, LearningRate, Strict, setting

#: Names under which a benchmark keeps values that were tuned together: those of plain SGD, and the two regimes of the
#: Stable SGD paper.
RegimeName = Literal["plain", "plastic", "stable"]

#: Lower bound of a decaying learning rate, as in the Stable SGD code.
MIN_LR = 5e-5

EVALUATE_EVERY = (
    "steps between two evaluations of the tasks so far, the current one included, for the "
    "[metrics of continual evaluation](metrics.md#continual-evaluation); null: none"
)
EVALUATE_IMAGES = "images of each task in these evaluations, evenly chosen; null: all"


class Regime(Strict):
    """Learning-rate decay and dropout of a method.

    The learning rate of task t (from 1) is max(lr * lr_decay^t, min(lr, min_lr)); see `pipeline.optimizers.stable_lr`.

    Attributes:
        min_lr: Lower bound of a decaying learning rate, `MIN_LR` unless given. Always None if the rate does not decay.
    """

    lr_decay: Annotated[float, Field(gt=0, le=1)] = setting(
        f"factor of the learning rate per task; below 1, task t (from 1) has max(lr · lr_decay^t, {MIN_LR:g}), or lr if less",
        1.0,
        of_optimizer_section=True,
    )
    min_lr: LearningRate | None = None
    dropout: Fraction = setting("probability of dropout", 0.0)
    dropout_at_test: Flag = setting(
        "true: dropout stays on where accuracy is measured, as in the Stable SGD code for MNIST until July 2020 "
        "([what it costs](reproductions.md#stable-sgd-1-rotated)); the Hessian is always taken without",
        None,
    )

    @model_validator(mode="after")
    def _floor(self) -> Regime:
        self.__dict__["min_lr"] = None if self.lr_decay == 1 else self.min_lr or MIN_LR
        return self


class TrainingPlan(Strict):
    """Batch size, epochs and the extent of evaluation.

    Attributes:
        evaluate: Which tasks are evaluated after each task: None for all of them, "next" for those learnt so far and
            the one that follows.
        evaluate_every: Steps of a task between two evaluations of the tasks so far; None for no such evaluations.
        evaluate_images: Images of each task in them, None for all. Always None if there are no such evaluations.
    """

    batch_size: Count = setting("examples per step")
    epochs: Count = setting("passes over each task")
    evaluate: Literal["next"] | None = None
    evaluate_every: Count | None = setting(EVALUATE_EVERY, None)
    evaluate_images: Count | None = setting(EVALUATE_IMAGES, None)

    @model_validator(mode="after")
    def _images_of_no_evaluation(self) -> TrainingPlan:
        if self.evaluate_every is None:
            self.__dict__["evaluate_images"] = None
        return self
