"""Read and check the three YAML files; every mistake becomes a one-line error with the file, the key and the remedy."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Tag, TypeAdapter, ValidationError

from pipeline.config.parsing import read_yaml as read_yaml
from pipeline.config.schema import Benchmark, Method, Params
from pipeline.config.sections import Compute, Eigenspectrum
from pipeline.config.strategies import StrategySettings
from pipeline.config.types import Chosen, Name, Strict, given, owners, settings_of
from pipeline.config.update_rules import UpdateRuleSettings
from pipeline.support.errors import UserError, nearest

M = TypeVar("M", bound=BaseModel)

#: Names that no method may have: each method has a file in `runs/`, and these are other files there.
RESERVED = ("data",)


@dataclass(frozen=True)
class Configuration:
    """The contents of the three files, checked.

    Attributes:
        params: What params.yaml selects to run.
        benchmarks: All benchmarks of benchmarks.yaml by name.
        methods: All methods of methods.yaml by name, whether or not params.yaml selects them.
    """

    params: Params
    benchmarks: Mapping[str, Benchmark]
    methods: Mapping[str, Method]

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark that params.yaml names."""
        return self.benchmarks[self.params.benchmark]


def check(model: type[M], value: Any, where: str) -> M:
    """Validate a mapping against a model.

    Args:
        model: The model to build.
        value: The parsed value, which must be a mapping.
        where: The file and the key of the value in it, such as "params.yaml:", with which the error message begins.

    Returns:
        The validated model.

    Raises:
        UserError: if the value is not a mapping or does not fit the model.
    """
    if not isinstance(value, dict):
        raise UserError(f"{where.rstrip(':. ')}: must be a mapping of keys, is {_shown(value)}; write keys below it")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise UserError(one_line(model, error, where)) from None


def read_configuration(folder: str | Path = ".") -> Configuration:
    """Read params.yaml, benchmarks.yaml and methods.yaml, and check that they fit together.

    Args:
        folder: The folder of the three files.

    Raises:
        UserError: at the first mistake in one of them.
    """
    folder = Path(folder)
    params = check(Params, read_yaml(folder / "params.yaml"), "params.yaml:")
    benchmarks = check_each(Benchmark, read_yaml(folder / "benchmarks.yaml"), "benchmarks.yaml")
    methods = check_each(Method, read_yaml(folder / "methods.yaml"), "methods.yaml")
    for name, benchmark in benchmarks.items():
        _check_sequence(name, benchmark)
        _check_tuned(name, benchmark)
    for name in RESERVED:
        if name in methods:
            raise UserError(f"methods.yaml: {name}: this name is taken by runs/{name}.yaml; choose another")
    if params.benchmark not in benchmarks:
        raise UserError(
            f"params.yaml: benchmark: benchmarks.yaml has no '{params.benchmark}'; {nearest(params.benchmark, benchmarks)}"
        )
    for method in params.methods:
        if method not in methods:
            raise UserError(f"params.yaml: methods: methods.yaml has no '{method}'; {nearest(method, methods, 40)}")
    lists: dict[str, Sequence[str | int]] = {"methods": params.methods, "seeds": params.seeds}
    for key, values in lists.items():
        for value in values:
            if values.count(value) > 1:
                raise UserError(f"params.yaml: {key}: {value} stands twice; name each once")
    for role in ("stable", "plastic", "reference"):
        method = getattr(params.figures, role)
        if method not in methods:
            raise UserError(
                f"params.yaml: figures.{role}: methods.yaml has no '{method}'; {nearest(method, methods, 40)}"
            )
    return Configuration(params, benchmarks, methods)


class Sections(Strict):
    """The sections of params.yaml that other stages read directly; the plan stage checks the whole file."""

    model_config = ConfigDict(**{**Strict.model_config, "extra": "ignore"})

    compute: Compute
    eigenspectrum: Eigenspectrum


def read_sections(folder: str | Path = ".") -> Sections:
    """Read only the `compute` and `eigenspectrum` sections of params.yaml.

    Raises:
        UserError: if the file is missing or one of the two sections is invalid; other sections are not checked.
    """
    return check(Sections, read_yaml(Path(folder) / "params.yaml"), "params.yaml:")


def check_each(model: type[M], value: Any, file: str) -> dict[str, M]:
    """Validate every entry of a file whose top-level keys are names.

    Args:
        model: The model of one entry.
        value: The parsed file.
        file: The name of the file, for error messages.

    Returns:
        The validated entries by name.

    Raises:
        UserError: if the file is empty or not a mapping, or a name or an entry is invalid.
    """
    if not isinstance(value, dict) or not value:
        raise UserError(f"{file}: must be a mapping with at least one name, is {_shown(value)}; restore it from Git")
    name_adapter = TypeAdapter(Name)
    for name in value:
        try:
            name_adapter.validate_python(name)
        except ValidationError:
            raise UserError(
                f"{file}: {name}: names become file names; use lower-case letters, digits and single dashes"
            ) from None
    return {name: check(model, entry, f"{file}: {name}.") for name, entry in value.items()}


def _check_sequence(name: str, benchmark: Benchmark) -> None:
    """Raise UserError unless a sequence stream has a list of datasets and every other stream a single one."""
    sequence, several = benchmark.stream.name == "sequence", isinstance(benchmark.dataset, list)
    if sequence and not several:
        raise UserError(
            f"benchmarks.yaml: {name}.dataset: a sequence needs a list of datasets, one a task; write it as a list"
        )
    if several and not sequence:
        raise UserError(
            f"benchmarks.yaml: {name}.dataset: a {benchmark.stream.name} stream takes one dataset, not a list; "
            "name one, or choose stream.name: sequence"
        )


def _check_tuned(name: str, benchmark: Benchmark) -> None:
    """Raise UserError if a tuned value belongs to other update rules or strategies than those that it stands under.

    Under an update rule there may be values of strategies, and the other way round: they hold for both together.
    """
    families: tuple[Sequence[type[Chosen]], ...] = (UpdateRuleSettings.choices, StrategySettings.choices)
    owner = {key: (choice, family) for family in families for choice in family for key in choice.tuned_names()}
    sections: dict[str, Mapping[str, Strict]] = {
        "optimizers": benchmark.optimizers,
        "strategies": benchmark.strategies,
        "combinations": benchmark.combinations,
    }
    for section, entries in sections.items():
        for key, settings in entries.items():
            for part in key.split("+"):
                if part in owner:  # under a regime any value may stand
                    refuse_unused(
                        f"benchmarks.yaml: {name}.{section}.{key}",
                        given(settings, type(settings).model_fields),
                        *owner[part],
                    )


def refuse_unused(where: str, keys: Iterable[str], used: type[Chosen], choices: Sequence[type[Chosen]]) -> None:
    """Refuse settings of other choices of a family.

    Args:
        where: The file and the key below which the settings stand.
        keys: The names of the settings.
        used: The update rule or strategy that they are for.
        choices: All choices of its family.

    Raises:
        UserError: if a setting is one of the family, and `used` does not have it.
    """
    for key in sorted((settings_of(*choices).keys() - settings_of(used).keys()) & set(keys)):
        *others, last = (f"'{owner}'" for owner in owners(choices, key))
        having = f"{', '.join(others)} and {last} have" if others else f"{last} has"
        raise UserError(f"{where}.{key}: '{used.called()}' has no {key}, only {having} it; remove it")


def one_line(model: type[BaseModel], error: ValidationError, where: str, fix: str | None = None) -> str:
    """Summarise a validation error in one line: 'file: key: what is wrong; remedy'.

    Only the first fault is reported. pydantic orders faults by field, but an unknown key comes first here, because it
    is usually a misspelling that explains the others.

    Args:
        model: The model that the value was validated against.
        error: The error.
        where: The file and the key of the value in it, with which the line begins.
        fix: The remedy, for files that are generated. None for the remedy that suits the fault.
    """
    faults = error.errors(include_url=False)
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    path, owner = _key_path(model, fault["loc"])
    key = where.rstrip(":.") if not path else f"{where}{path}" if where.endswith(".") else f"{where} {path}"
    value = fault["input"]
    kind = fault["type"]
    if kind == "extra_forbidden":
        return f"{key}: unknown key; {fix or nearest(fault['loc'][-1], owner.model_fields if owner else (), 40)}"
    if kind == "missing":
        return f"{key}: missing; {fix or 'add it'}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        context = fault.get("ctx", {})
        expected = [tag.strip().strip("'") for tag in str(context.get("expected_tags", "")).split(",") if tag.strip()]
        tag = context.get("tag")
        if tag is None:
            return f"{key}.name: missing; {nearest('', expected)}" if expected else f"{key}.name: missing; add it"
        return f"{key}.name: unknown '{tag}'; {nearest(tag, expected)}"
    if kind == "literal_error":
        expected = re.findall(r"'([^']*)'", str(fault.get("ctx", {}).get("expected", "")))
        return f"{key}: unknown {_shown(value)}; {nearest(value, expected)}"
    message = (
        fault["msg"].removeprefix("Value error, ").replace("Input should be", "must be").replace(" should ", " must ")
    )
    # A rule that several keys break together names them itself; all of their values would hide it.
    told = "" if kind == "value_error" and isinstance(value, dict) else f", is {_shown(value)}"
    return f"{key}: {message[0].lower()}{message[1:]}{told}; {fix or 'fix it there'}"


def _key_path(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[str, type[BaseModel] | None]:
    """The dotted key of a fault as it reads in the file (without union tags), and the model that has its last part."""
    shown: list[str] = []
    current: Any = model
    owner: type[BaseModel] | None = model
    for step in loc:
        if step == "[key]":  # how pydantic marks a fault in the key of a dictionary
            continue
        owner = current if isinstance(current, type) and issubclass(current, BaseModel) else None
        if owner is not None and step in owner.model_fields:
            shown.append(str(step))
            current = _inner(owner.model_fields[str(step)].annotation)
        elif isinstance(current, dict):  # a discriminated union, where the step is the tag
            current = current.get(step)
        else:
            shown.append(str(step))
            current = current[0] if isinstance(current, list) else None
    return ".".join(shown), owner


def _inner(annotation: Any) -> Any:
    """What an annotation contains, for `_key_path` to descend into.

    A dictionary {tag: model} for a discriminated union, a list of one element for a list or the values of a dictionary,
    else the annotation itself, which may be a model.
    """
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _inner(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        tagged = {
            mark.tag: _inner(member)
            for member in typing.get_args(annotation)
            for mark in getattr(member, "__metadata__", ())
            if isinstance(mark, Tag)
        }
        if tagged:
            return tagged
        members = [a for a in typing.get_args(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
        if len(members) == 1:
            return members[0]
        return {typing.get_args(m.model_fields["name"].annotation)[0]: m for m in members} or None
    if origin in (dict, list):
        return [_inner(typing.get_args(annotation)[-1])]
    return annotation


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print integers of more than 4,300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."
