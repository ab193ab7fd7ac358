"""The schema of params.yaml, benchmarks.yaml and methods.yaml: every key with its type and range.

Unknown keys are rejected. `Settings` holds the tunable values, as update rules, strategies and regimes declare them. It
has the same fields wherever a value can be set (as a tuned value of a benchmark or as a value of a method), so that a
method can inherit whatever it does not set itself; of the settings in `NULLABLE` it can set null.
"""

from __future__ import annotations

from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from pipeline.config.data import Datasets, ImageShape, Stream
from pipeline.config.networks import LEAST_SIDE, Model, ReducedResnet
from pipeline.config.regimes import EVALUATE_EVERY, EVALUATE_IMAGES, Regime, RegimeName, TrainingPlan
from pipeline.config.sections import Compute, Eigenspectrum, Figures
from pipeline.config.strategies import StrategyName, StrategySettings
from pipeline.config.types import FLAG, Count, Held, Seed, Strict, optional, settings_of
from pipeline.config.update_rules import TunedRule, UpdateRuleName, UpdateRuleSettings

Evaluated = Literal["test", "validation"]


def _combination(text: str) -> str:
    """Validate a key of `combinations`: an update rule, then a strategy, a regime or both, joined by plus signs."""
    rule, *rest = text.split("+")
    strategy = rest and rest[0] in get_args(StrategyName)
    regime = rest and rest[-1] in get_args(RegimeName)
    if rule not in get_args(TunedRule) or not rest or len(rest) != bool(strategy) + bool(regime):
        raise ValueError("must be an update rule, then a strategy, a regime or both, as in sgd+er or sgd+ewc+stable")
    return text


Combination = Annotated[str, AfterValidator(_combination)]

_OF_RULES = settings_of(*UpdateRuleSettings.choices)
_OF_ALL = {**_OF_RULES, **settings_of(Regime, TrainingPlan, *StrategySettings.choices)}
_OF_OPTIMIZER = _OF_RULES | {key: field for key, field in _OF_ALL.items() if field.json_schema_extra["optimizer"]}  # type: ignore[index]
#: Settings of which null, where it is written, is a value (none, all, or as many as in a batch) that wins over one of an
#: earlier layer. A flag has false for that. Of settings with another default it is none: a plan leaves null out, and would be
#: read with that default.
NULLABLE = {
    key
    for key, field in _OF_ALL.items()
    if NoneType in get_args(field.annotation) and field.annotation != FLAG and field.default is None
}

if TYPE_CHECKING:

    class _AnySettings(Strict):
        def __getattr__(self, key: str) -> Any: ...

    Settings = _AnySettings

    class Optimizer(_AnySettings):
        """The update rule of the methods that name none."""

        name: UpdateRuleName
else:
    Settings = optional("Settings", "The tunable values of a run; what is not set is inherited.", _OF_ALL)
    Optimizer = optional(
        "Optimizer",
        "The update rule of the methods that pin none; a null value means the benchmark's tuned one.",
        _OF_OPTIMIZER,
        name=(UpdateRuleName, ...),
    )


# --- params.yaml


class Params(Strict):
    """The contents of params.yaml: what to run."""

    benchmark: str = Field(description="a name in `benchmarks.yaml`")
    optimizer: Optimizer
    methods: Annotated[list[str], Field(min_length=1, max_length=1000)] = Field(
        description="names in `methods.yaml`, at least one"
    )
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=1000)] = Field(description="at least one")
    eigenspectrum: Eigenspectrum
    figures: Figures
    compute: Compute


# --- benchmarks.yaml


class Training(Strict):
    """The `training` section of a benchmark: defaults that every method starts from, and the extent of evaluation."""

    batch_size: Count = Field(description="examples per step that every method starts from")
    epochs: Count = Field(description="passes over each task that every method starts from")
    evaluate: Literal["all", "next"] = Field(
        "all",
        description="after each task evaluate `all` tasks, or `next`: those learnt and the next one, which is all "
        "that the metrics need (but for forgetting in [multi-task](metrics.md)) and saves nearly half of the "
        "evaluation on a long stream",
    )
    evaluate_every: Count | None = Field(None, description=EVALUATE_EVERY)
    evaluate_images: Count | None = Field(None, description=EVALUATE_IMAGES)


class Searched(Strict):
    """The `searched` section of a benchmark: how its tuned values were found."""

    note: str = Field(description="how the tuned values were found: the grid, the seeds, the measure")
    record: str | None = Field(None, description="where every run of the search is kept")


class Benchmark(Strict):
    """One benchmark: its data, its model, and its tuned values by update rule, strategy and regime.

    Attributes:
        dataset: A public dataset, a folder of the user's own images, or a list of these for a sequence stream.
        optimizers: Tuned values by update rule (for TAG by base, as in "tag-rmsprop").
        strategies: Tuned values by strategy.
        regimes: Tuned values by regime.
        combinations: Values tuned for an update rule together with a strategy, a regime or both: "sgd+er",
            "sgd+stable", "sgd+ewc+stable".
    """

    description: str = Field(description="in a line")
    dataset: Datasets
    stream: Stream
    evaluation: Evaluated = Field(
        "test",
        description="test: train on all training images, judge on the test images. validation: hold `validation_fraction` of "
        "each class of the training images out of training and judge on it; the test images are not looked at",
    )
    validation_fraction: Held = Field(
        0.2, description="share of each class of the training images held out where `evaluation` is validation"
    )
    model: Model
    training: Training
    optimizers: dict[TunedRule, Settings] = Field(default_factory=dict)
    strategies: dict[StrategyName, Settings] = Field(default_factory=dict)
    regimes: dict[RegimeName, Settings] = Field(default_factory=dict)
    combinations: dict[Combination, Settings] = Field(default_factory=dict)
    searched: Searched | None = None

    @field_validator("model")
    @classmethod
    def _images_large_enough(cls, model: Model, others: ValidationInfo) -> Model:
        """Tell of small images of one's own here, and not after hours of other stages. The network itself checks all."""
        for images in (others.data.get("stream"), others.data.get("dataset")):
            if isinstance(images, ImageShape) and isinstance(model, ReducedResnet):
                if min(images.height, images.width) < LEAST_SIDE:
                    raise ValueError(
                        f"resnet18-reduced needs images of at least {LEAST_SIDE}x{LEAST_SIDE} pixels, and these are brought "
                        f"to {images.height}x{images.width}"
                    )
                break  # a sequence brings all to one shape
        return model


# --- methods.yaml


class Method(Settings):
    """One method: an update rule, a strategy, a regime, and any settings that it fixes itself."""

    description: str = Field(description="in a line")
    optimizer: UpdateRuleName | None = Field(None, description="the update rule; null: the one of `params.yaml`")
    strategy: StrategyName = Field("naive", description="what is added to the gradient or the data")
    regime: RegimeName = Field(
        "plain", description="plain; stable, the Stable SGD paper's; or plastic, what it compares that with"
    )
