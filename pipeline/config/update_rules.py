"""The update rules and their settings. A class here, and its line in `pipeline.optimizers.build`, make a new one known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from pipeline.config.types import Chosen, Fraction, LearningRate, Sharpness, setting


class UpdateRuleSettings(Chosen):
    """How a gradient becomes a step."""

    name: Any
    lr: LearningRate = setting("learning rate")

    @classmethod
    def tuned_names(cls) -> list[str]:
        """The keys under which a benchmark keeps its tuned values."""
        return [cls.called()]

    @classmethod
    def tuned_name(cls, values: dict[str, Any]) -> str:
        """The one of them that goes with values of its settings."""
        return cls.called()


class SGDSettings(UpdateRuleSettings):
    """Stochastic gradient descent."""

    name: Literal["sgd"]
    momentum: Fraction = setting("momentum", 0.0)


class RMSpropSettings(UpdateRuleSettings):
    """RMSprop, with PyTorch's other values."""

    name: Literal["rmsprop"]


class AdagradSettings(UpdateRuleSettings):
    """Adagrad, with PyTorch's other values."""

    name: Literal["adagrad"]


class AdamSettings(UpdateRuleSettings):
    """Adam, with PyTorch's other values."""

    name: Literal["adam"]


class TAGSettings(UpdateRuleSettings):
    """Task-based accumulated gradients."""

    name: Literal["tag"]
    base: Literal["rmsprop", "adagrad", "adam"] = setting("base update", "rmsprop")
    b: Sharpness = setting("sharpness of α", 5.0)
    bank_dtype: Literal["float32", "bfloat16"] | None = setting("dtype of the moments of past tasks", None)

    @classmethod
    def tuned_names(cls) -> list[str]:
        """They differ with its base."""
        return [f"tag-{base}" for base in get_args(cls.model_fields["base"].annotation)]

    @classmethod
    def tuned_name(cls, values: dict[str, Any]) -> str:
        """The one of the base."""
        return f"tag-{values.get('base', cls.model_fields['base'].default)}"


if TYPE_CHECKING:
    UpdateRule = UpdateRuleSettings
    UpdateRuleName = str
    TunedRule = str
else:
    UpdateRule = UpdateRuleSettings.union()
    UpdateRuleName = UpdateRuleSettings.names()
    #: A key of a benchmark's `optimizers`.
    TunedRule = Literal[tuple(name for rule in UpdateRuleSettings.choices for name in rule.tuned_names())]
