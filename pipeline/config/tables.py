"""Generate the tables of docs/parameters.md from the declarations of the settings:  tag-pipeline docs

Everything between a pair of table markers in the document is regenerated; tests/config/test_tables.py checks that the
committed tables are up to date.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.config.data import Folder, PermutedStream, RotatedStream, SequenceStream, SplitStream
from pipeline.config.networks import Mlp, Network, ReducedResnet, Resnet
from pipeline.config.regimes import Regime, TrainingPlan
from pipeline.config.schema import Benchmark, Method, Params, Searched, Settings, Training
from pipeline.config.sections import Compute, Eigenspectrum, Figures
from pipeline.config.strategies import StrategySettings
from pipeline.config.types import Chosen, Strict, owners, settings_of
from pipeline.config.update_rules import UpdateRuleSettings
from pipeline.support.errors import UserError
from pipeline.support.files import write_text

DOCUMENT = Path("docs/parameters.md")
STREAMS: dict[str, type[Strict]] = {
    "rotated": RotatedStream,
    "permuted": PermutedStream,
    "split": SplitStream,
    "sequence": SequenceStream,
}
NETWORKS: dict[str, type[Strict]] = {"mlp": Mlp, "resnet18-reduced": ReducedResnet, "resnet18": Resnet}

Row = tuple[str, ...]


def params() -> Iterator[Row]:
    """Yield the rows of the table of params.yaml, the header first."""
    yield "key", "meaning", "values"
    yield from _rows("", Params)
    rules = settings_of(*UpdateRuleSettings.choices)
    yield (
        "`optimizer.name`",
        "the update rule of the methods that pin none",
        ", ".join(_names(UpdateRuleSettings.choices)),
    )
    for key, field in (rules | _of_optimizer_section()).items():
        having = owners(UpdateRuleSettings.choices, key)
        of = f" ({', '.join(having)})" if 0 < len(having) < len(UpdateRuleSettings.choices) else ""
        null = "null: the benchmark's value, else the default below"
        yield f"`optimizer.{key}`", f"{field.description}{of}; {null}", values(field)
    for section, model in (("eigenspectrum", Eigenspectrum), ("figures", Figures), ("compute", Compute)):
        yield from _rows(f"{section}.", model)


def benchmarks() -> Iterator[Row]:
    """Yield the rows of the table of benchmarks.yaml, the header first: every key except the tuned values."""
    yield "key", "of", "meaning", "values", "default"
    for key, meaning, allowed in _rows("", Benchmark):
        yield key, "", meaning, allowed, _left_out(Benchmark, key)
    parts: list[tuple[str, str, type[Strict]]] = [
        ("dataset.", "one's own folder", Folder),
        *(("stream.", name, stream) for name, stream in STREAMS.items()),
        ("model.", "all", Network),
        *(("model.", name, network) for name, network in NETWORKS.items()),
        ("training.", "", Training),
        ("searched.", "", Searched),
    ]
    for prefix, of, model in parts:
        shared = Network.model_fields if of in NETWORKS else {}
        for key, meaning, allowed in _rows(prefix, model, without=shared):
            yield key, of, meaning, allowed, _left_out(model, key)


def methods() -> Iterator[Row]:
    """Yield the rows of the table of methods.yaml, the header first: the keys of a method and the tunable settings."""
    yield "key", "of", "meaning", "values", "default"
    for key, field in Method.model_fields.items():
        if key not in Settings.model_fields and field.description:
            default = "required" if field.is_required() else "" if field.default is None else str(field.default)
            yield f"`{key}`", "all", field.description, values(field), default
    for models in ([Regime], [TrainingPlan], UpdateRuleSettings.choices, StrategySettings.choices):
        for key, field in settings_of(*models).items():
            having = owners([*UpdateRuleSettings.choices, *StrategySettings.choices], key)
            of = ", ".join(having) if len(having) < len(UpdateRuleSettings.choices) and having else "all"
            yield f"`{key}`", of, str(field.description), values(field), _default(models, key)


def _left_out(model: type[Strict], key: str) -> str:
    """What a key, as the table writes it, has where it is left out; "required" if it may not be."""
    field = model.model_fields[key.strip("`").rpartition(".")[2]]
    default = field.get_default()
    return "required" if field.is_required() else "" if default is None else str(default)


def _default(models: Iterable[type[BaseModel]], key: str) -> str:
    """The default of a setting; where models differ, each default with the names of those that have it."""
    names: dict[str, list[str]] = {}
    for model in models:
        field = settings_of(model).get(key)
        if field is not None:
            value = "" if field.is_required() or field.default is None else field.default
            text = f"{value:g}" if isinstance(value, float | int) else str(value)
            names.setdefault(text, []).append(model.called() if issubclass(model, Chosen) else "")
    if len(names) == 1:
        return next(iter(names))
    return ", ".join(f"{value} ({', '.join(of)})" for value, of in names.items() if value)


def values(field: FieldInfo) -> str:
    """Describe in words the values that a field accepts."""
    return _kind(field.annotation, field.metadata)


def _kind(kind: Any, metadata: Iterable[Any]) -> str:
    """Describe a type and the bounds in its metadata; None in a union is left out."""
    if get_origin(kind) in (Union, UnionType):
        inner = [part for part in get_args(kind) if part is not NoneType]
        if inner == [Literal[True]]:
            return "true, false"
        (one,) = inner
        found = list(metadata) + list(getattr(one, "__metadata__", ()))
        return _kind(get_args(one)[0] if found and hasattr(one, "__metadata__") else one, _flat(found))
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    if kind is bool:
        return "true, false"
    limits: dict[type[Any], Any] = {}
    for limit in metadata:
        for name in (Ge, Gt, Le, Lt):
            if isinstance(limit, name):
                limits[name] = getattr(limit, name.__name__.lower())
    low = f"from {_number(limits[Ge])}" if Ge in limits else f"above {_number(limits[Gt])}" if Gt in limits else ""
    high = f"to {_number(limits[Le])}" if Le in limits else f"below {_number(limits[Lt])}" if Lt in limits else ""
    if kind is int or kind is float:
        return " ".join(filter(None, ("whole, " * (kind is int) + low, high)))
    return "a list" if get_origin(kind) is list else "text" if kind is str else ""


def _flat(metadata: Iterable[Any]) -> Iterator[Any]:
    """Unpack the constraints inside a FieldInfo; pass on all others."""
    for part in metadata:
        yield from part.metadata if isinstance(part, FieldInfo) else [part]


def _number(value: float) -> str:
    return "2⁶³" if value == 2**63 else f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _rows(prefix: str, model: type[Strict], without: Iterable[str] = ()) -> Iterator[tuple[str, str, str]]:
    for key, field in model.model_fields.items():
        if field.description and key not in without:
            yield f"`{prefix}{key}`", field.description, values(field)


def _of_optimizer_section() -> dict[str, FieldInfo]:
    """The settings of the regime and of training that `optimizer` in params.yaml has as well."""
    found = settings_of(Regime, TrainingPlan)
    return {key: field for key, field in found.items() if (field.json_schema_extra or {})["optimizer"]}  # type: ignore[index]


def _names(choices: Iterable[type[Any]]) -> list[str]:
    return [choice.called() for choice in choices]


def renewed(text: str) -> str:
    """Regenerate the tables in the text of the document.

    Args:
        text: The current text, with the table markers.

    Returns:
        The text with every table replaced.

    Raises:
        UserError: if a table marker is missing.
    """
    for name, rows in {"params": params(), "benchmarks": benchmarks(), "methods": methods()}.items():
        heading, *lines = (f"| {' | '.join(row)} |" for row in rows)
        table = "\n".join([heading, "|" + "---|" * (heading.count(" | ") + 1), *lines])
        begin, end = f"<!-- table: {name} -->", "<!-- /table -->"
        found = re.subn(f"{begin}.*?{end}", lambda _: f"{begin}\n{table}\n{end}", text, count=1, flags=re.DOTALL)  # noqa: B023
        if not found[1]:
            raise UserError(f"{DOCUMENT}: has no mark {begin}; restore it from git")
        text = found[0]
    return text


def renew() -> None:
    """Regenerate the tables of docs/parameters.md.

    Raises:
        UserError: if a table marker is missing.
    """
    write_text(DOCUMENT, renewed(DOCUMENT.read_text(encoding="utf-8")))
