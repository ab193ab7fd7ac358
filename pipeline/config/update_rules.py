"""The settings of each update rule.

To add an update rule, declare its settings as a class here and add it to the table in `pipeline/optimizers/build.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from pipeline.config.types import Chosen, Fraction, LearningRate, Sharpness, setting


class UpdateRuleSettings(Chosen):
    """Base of the settings of every update rule, which turns a gradient into a step."""

    name: Any
    lr: LearningRate = setting("learning rate")

    @classmethod
    def tuned_name(cls, values: dict[str, Any]) -> str:
        """Return the key, one of `tuned_names`, of the tuned values that go with these settings.

        Args:
            values: Settings by name; those that are missing have their defaults.
        """
        return cls.called()


class SGDSettings(UpdateRuleSettings):
    """Settings of stochastic gradient descent."""

    name: Literal["sgd"]
    momentum: Fraction = setting("momentum", 0.0)


class RMSpropSettings(UpdateRuleSettings):
    """Settings of RMSprop; everything else has PyTorch's default."""

    name: Literal["rmsprop"]


class AdagradSettings(UpdateRuleSettings):
    """Settings of Adagrad; everything else has PyTorch's default."""

    name: Literal["adagrad"]


class AdamSettings(UpdateRuleSettings):
    """Settings of Adam; everything else has PyTorch's default."""

    name: Literal["adam"]


class TAGSettings(UpdateRuleSettings):
    """Settings of TAG, task-based accumulated gradients."""

    name: Literal["tag"]
    base: Literal["rmsprop", "adagrad", "adam"] = setting("base update", "rmsprop")
    b: Sharpness = setting("sharpness of α", 5.0)
    bank_dtype: Literal["float32", "bfloat16"] | None = setting("dtype of the moments of past tasks", None)

    @classmethod
    def tuned_names(cls) -> list[str]:
        """List the keys of TAG's tuned values, one for each base: tag-rmsprop, tag-adagrad, tag-adam."""
        return [f"tag-{base}" for base in get_args(cls.model_fields["base"].annotation)]

    @classmethod
    def tuned_name(cls, values: dict[str, Any]) -> str:
        """Return the key for the base in `values`, or for the default base if it has none."""
        return f"tag-{values.get('base', cls.model_fields['base'].default)}"


if TYPE_CHECKING:
    UpdateRule = UpdateRuleSettings
    UpdateRuleName = str
    TunedRule = str
else:
    UpdateRule = UpdateRuleSettings.union()
    UpdateRuleName = UpdateRuleSettings.names()
    #: A key of the `optimizers` section of a benchmark.
    TunedRule = Literal[tuple(name for rule in UpdateRuleSettings.choices for name in rule.tuned_names())]
