"""The types of configuration values, and the declaration of settings.

Each setting is declared once, with its type, range, default and description.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal, Optional, Self, Union, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, create_model
from pydantic.fields import FieldInfo

# Every number has an upper bound, far above any useful value, so that a typing mistake cannot bring a machine down.
LearningRate = Annotated[float, Field(gt=0, le=1e6)]
#: The weight of a penalty, or the norm that its gradient is clipped to; 0 for none.
Weight = Annotated[float, Field(ge=0, le=1e12)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
#: The sharpness b of TAG's alpha; beyond these bounds exp(b) exceeds the range of float32.
Sharpness = Annotated[float, Field(ge=-80, le=80)]
#: A number of examples, epochs or Hessian-vector products.
Count = Annotated[int, Field(ge=1, le=10**6)]
#: A number of tasks.
Tasks = Annotated[int, Field(ge=1, le=1000)]
#: A class, as the dataset numbers it.
Label = Annotated[int, Field(ge=0, le=10**6)]
#: A number of units in a layer.
Width = Annotated[int, Field(ge=1, le=65_536)]
#: A number of rows or columns of an image.
Side = Annotated[int, Field(ge=1, le=4096)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
#: A number of threads of a process, or of processes that run in parallel.
Threads = Annotated[int, Field(ge=1, le=1024)]
#: The share of some images that is held out, for testing or validation.
Held = Annotated[float, Field(gt=0, lt=1)]
#: The name of a benchmark, a method or a record; restricted because names become names of files and stages.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=80)]
#: A line of text.
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]+$", max_length=200)]
#: true or false in the YAML files. False becomes None, so that a plan contains the key only if it is true.
FLAG = Literal[True] | None
Flag = Annotated[FLAG, BeforeValidator(lambda value: None if value is False else value)]


class Strict(BaseModel):
    """Base model without unknown keys, NaN, infinity or silent conversion ("0.1" is not a number, true is not 1)."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def setting(words: str, default: Any = ..., *, of_optimizer_section: bool = False) -> Any:
    """Declare a field that can be tuned.

    A benchmark can set it for an update rule, a strategy or a regime, and a method can set it for itself.

    Args:
        words: Its meaning, in one line.
        default: The value if it is set nowhere. Without a default it must be set somewhere.
        of_optimizer_section: Whether `optimizer` in params.yaml has this setting as well. The settings of update rules
            are all there anyway.
    """
    return Field(default, description=words, json_schema_extra={"setting": True, "optimizer": of_optimizer_section})


class Chosen(Strict):
    """Base of settings that are distinguished by their `name`.

    A direct subclass is a family, such as the update rules or the strategies. Each subclass of a family is one choice:
    it declares its name, as a `Literal`, and its settings.

    Attributes:
        choices: All choices of the family, in the order of their definition.
    """

    choices: ClassVar[list[type[Any]]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Start a list of choices for a new family, or add a new choice to the list of its family."""
        super().__init_subclass__(**options)
        if Chosen in cls.__bases__:
            cls.choices = []
        else:
            cls.choices.append(cls)

    @classmethod
    def called(cls) -> str:
        """Return the name of this choice."""
        return str(get_args(cls.model_fields["name"].annotation)[0])

    @classmethod
    def by_name(cls, name: str) -> type[Self]:
        """Return the choice of this family that has the name, which must exist."""
        found: type[Self] = next(choice for choice in cls.choices if choice.called() == name)
        return found

    @classmethod
    def tuned_names(cls) -> list[str]:
        """List the keys under which a benchmark may keep tuned values of this choice."""
        return [cls.called()]

    def value_of(self, key: str) -> Any:
        """Return the value of a setting, or None if this choice has no such setting."""
        return getattr(self, key, None)

    @classmethod
    def union(cls) -> Any:
        """Return the type of a field that holds any choice of this family."""
        return Annotated[Union[tuple(cls.choices)], Field(discriminator="name")]  # noqa: UP007 - at runtime

    @classmethod
    def names(cls) -> Any:
        """Return the type of a field that holds the name of a choice of this family."""
        return Literal[tuple(choice.called() for choice in cls.choices)]


def settings_of(*models: type[BaseModel]) -> dict[str, FieldInfo]:
    """Collect the settings that models declare with `setting`, by name.

    Raises:
        TypeError: if two models declare the same name with different types or bounds.
    """
    found: dict[str, FieldInfo] = {}
    for model in models:
        for key, field in model.model_fields.items():
            if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("setting"):
                known = found.setdefault(key, field)
                if (known.annotation, known.metadata) != (field.annotation, field.metadata):
                    raise TypeError(f"{model.__name__}.{key} is declared elsewhere with another type")
    return found


def optional(model: str, words: str, fields: dict[str, FieldInfo], **others: Any) -> Any:
    """Create a model of settings that are all optional; without one its value comes from elsewhere.

    Args:
        model: The name of the new model.
        words: Its docstring.
        fields: The settings, as returned by `settings_of`.
        others: Further fields, as pydantic's `create_model` takes them.
    """
    made: dict[str, Any] = {}
    for key, field in fields.items():
        kind: Any = field.annotation
        if kind == FLAG:  # a flag, which a method may set to false where a benchmark sets it to true
            kind = bool
        elif field.metadata:
            kind = Annotated[(kind, *field.metadata)]
        made[key] = (Optional[kind], Field(None, description=field.description))  # noqa: UP045 - at runtime
    return create_model(model, __base__=Strict, __doc__=words, **others, **made)


def given(model: BaseModel, keys: Iterable[str], nulls: Iterable[str] = ()) -> dict[str, Any]:
    """Return the values that a model was given.

    Args:
        model: The model.
        keys: The names of the values that are wanted.
        nulls: Those of which None, where it was set, is a value like any other. Of the others it means that none was.
    """
    wanted = set(keys)
    found = {key: value for key, value in model.model_dump(exclude_none=True).items() if key in wanted}
    return found | dict.fromkeys(wanted & set(nulls) & model.model_fields_set - found.keys())


def owners(choices: Sequence[type[Chosen]], key: str) -> list[str]:
    """Return the names of the choices that have the setting `key`."""
    return [choice.called() for choice in choices if key in settings_of(choice)]
