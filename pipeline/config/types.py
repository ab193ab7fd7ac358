"""What a value may be, and how a setting is declared: once, with its type, range, default and words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal, Optional, Self, Union, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, create_model
from pydantic.fields import FieldInfo

# Every number has an upper bound, far above any that is of use: a slip of the keyboard must not take a machine down.
LearningRate = Annotated[float, Field(gt=0, le=1e6)]
#: Of a penalty, or of the norm that it is clipped to; 0 for none.
Weight = Annotated[float, Field(ge=0, le=1e12)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
#: Of TAG's alpha; beyond it exp(b) leaves float32.
Sharpness = Annotated[float, Field(ge=-80, le=80)]
#: Of examples, epochs, products.
Count = Annotated[int, Field(ge=1, le=10**6)]
#: Of tasks.
Tasks = Annotated[int, Field(ge=1, le=1000)]
#: Of units in a layer.
Width = Annotated[int, Field(ge=1, le=65_536)]
#: Of an image's rows or columns.
Side = Annotated[int, Field(ge=1, le=4096)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
#: Threads of a process, or processes side by side.
Threads = Annotated[int, Field(ge=1, le=1024)]
Held = Annotated[float, Field(gt=0, lt=1)]
#: Names become file and stage names.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=80)]
#: true or false in the YAML files; a plan holds true, or nothing.
Flag = Annotated[Literal[True] | None, BeforeValidator(lambda value: None if value is False else value)]


class Strict(BaseModel):
    """No unknown keys, no silent conversion ("0.1" is no number, true is no 1), no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def setting(words: str, default: Any = ..., *, of_optimizer_section: bool = False) -> Any:
    """A field that can be tuned: by a benchmark, for an update rule, a strategy or a regime, or by a method.

    Args:
        words: What it means, in a line.
        default: The value where nobody gives one; without it, somebody must.
        of_optimizer_section: Whether `optimizer` of params.yaml has it, too. It has the settings of all update rules.
    """
    return Field(default, description=words, json_schema_extra={"setting": True, "optimizer": of_optimizer_section})


class Chosen(Strict):
    """One of several that are told apart by `name`. A subclass declares its name and its settings."""

    choices: ClassVar[list[type[Any]]]

    def __init_subclass__(cls, **options: Any) -> None:
        """The direct subclasses are kinds of things; theirs are the choices of a kind."""
        super().__init_subclass__(**options)
        if Chosen in cls.__bases__:
            cls.choices = []
        else:
            cls.choices.append(cls)

    @classmethod
    def called(cls) -> str:
        """Its name."""
        return str(get_args(cls.model_fields["name"].annotation)[0])

    @classmethod
    def by_name(cls, name: str) -> type[Self]:
        """The choice of this kind that has the name."""
        found: type[Self] = next(choice for choice in cls.choices if choice.called() == name)
        return found

    def value_of(self, key: str) -> Any:
        """The value of a setting; None where it has no such setting."""
        return getattr(self, key, None)

    @classmethod
    def union(cls) -> Any:
        """The type of a field that holds any choice of this kind."""
        return Annotated[Union[tuple(cls.choices)], Field(discriminator="name")]  # noqa: UP007 - at runtime

    @classmethod
    def names(cls) -> Any:
        """The type of a field that holds the name of one."""
        return Literal[tuple(choice.called() for choice in cls.choices)]


def settings_of(*models: type[BaseModel]) -> dict[str, FieldInfo]:
    """The settings that models declare. Raises TypeError where two declare one name differently."""
    found: dict[str, FieldInfo] = {}
    for model in models:
        for key, field in model.model_fields.items():
            if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("setting"):
                known = found.setdefault(key, field)
                if (known.annotation, known.metadata) != (field.annotation, field.metadata):
                    raise TypeError(f"{model.__name__}.{key} is declared elsewhere with another type")
    return found


def optional(model: str, words: str, fields: dict[str, FieldInfo], **others: Any) -> Any:
    """A model of settings of which each may be left out: None means that somebody else gives it.

    Args:
        model: Its name.
        words: Its docstring.
        fields: Of `settings_of`.
        others: Further fields, as pydantic's `create_model` takes them.
    """
    made: dict[str, Any] = {}
    for key, field in fields.items():
        kind: Any = field.annotation
        if kind == Literal[True] | None:  # a flag, which a method may set to false where a benchmark sets it to true
            kind = bool
        elif field.metadata:
            kind = Annotated[(kind, *field.metadata)]
        made[key] = (Optional[kind], Field(None, description=field.description))  # noqa: UP045 - at runtime
    return create_model(model, __base__=Strict, __doc__=words, **others, **made)


def given(model: BaseModel, keys: Iterable[str]) -> dict[str, Any]:
    """Those of a model's values that are set and among `keys`."""
    wanted = set(keys)
    return {key: value for key, value in model.model_dump(exclude_none=True).items() if key in wanted}


def owners(choices: Sequence[type[Chosen]], key: str) -> list[str]:
    """The names of those choices that have a setting."""
    return [choice.called() for choice in choices if key in settings_of(choice)]
