"""Resolve the three YAML files into one plan for each method, which holds only the values that this method uses.

Its plan is the only part of the configuration that a train stage depends on, and DVC compares contents: the stage
reruns if and only if a value that it uses has changed. Later layers override earlier ones:

    the benchmark's training < optimizers.<update rule> < strategies.<strategy> < regimes.<regime>
    < combinations (rule+strategy, rule+regime, rule+strategy+regime)
    < `optimizer` of params.yaml < the method's own values

Null is a value of the settings in `schema.NULLABLE`, where a benchmark or a method has it; of others, and in params.yaml, it
leaves the value to the layers before.

`optimizer` of params.yaml applies to the methods that pin no optimizer. Its settings that only TAG has (`base`, `b` and
`bank_dtype`) apply to every TAG method that does not set them itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field

from pipeline.config.data import Dataset, SequenceStream, Stream
from pipeline.config.networks import Model, Resnet, Weights
from pipeline.config.reading import Configuration, check, read_yaml, refuse_unused
from pipeline.config.regimes import Regime, TrainingPlan
from pipeline.config.schema import NULLABLE, Benchmark, Evaluated, Settings
from pipeline.config.strategies import Strategy, StrategySettings
from pipeline.config.types import Held, Strict, given, owners, settings_of
from pipeline.config.update_rules import TAGSettings, UpdateRule, UpdateRuleSettings
from pipeline.support.errors import UserError

M = TypeVar("M", bound=BaseModel)

#: The update rule that `optimizer.name` has unless it is changed: it need not be told where it has no effect.
PLAIN = "sgd"

#: Settings of `optimizer` in params.yaml that apply to every TAG method that does not set them itself.
ONLY_TAG = {key for key in settings_of(TAGSettings) if owners(UpdateRuleSettings.choices, key) == ["tag"]}


class RunPlan(Strict):
    """Everything that the training of one method needs besides its data and its seed."""

    method: str
    optimizer: UpdateRule
    strategy: Strategy
    regime: Regime
    training: TrainingPlan
    model: Model

    @property
    def pretrained(self) -> bool:
        """Whether the network starts from pretrained weights, which the download stage fetches."""
        return isinstance(self.model, Resnet) and self.model.weights != "random"


class DataPlan(Strict):
    """Everything that the download and split stages need to produce the data of a benchmark.

    Attributes:
        datasets: A single dataset, or one for each task of a sequence stream.
        weights: The initial weights to download along with the data.
        validation_fraction: The share of the training images to hold out, or None if nothing is held out.
    """

    datasets: Annotated[list[Dataset], Field(min_length=1)]
    weights: Weights = "random"
    stream: Stream
    evaluation: Evaluated
    validation_fraction: Held | None = None


def resolve_run(configuration: Configuration, name: str) -> RunPlan:
    """Resolve the plan of one method.

    Args:
        configuration: The three files.
        name: The method, a key of methods.yaml.

    Returns:
        The plan, with every setting of the method's update rule, strategy and regime.

    Raises:
        UserError: if the method sets a value that its update rule or strategy does not have, sets both `passes` and
            `visits`, has fewer visits than the stream has tasks, or has no value for a setting without a default.
    """
    params, benchmark, method = configuration.params, configuration.benchmark, configuration.methods[name]
    rule = UpdateRuleSettings.by_name(method.optimizer or params.optimizer.name)
    strategy = StrategySettings.by_name(method.strategy)
    set_here = given(method, Settings.model_fields)
    if method.optimizer is not None:  # otherwise the update rule depends on params.yaml, and its settings may be unused
        refuse_unused(f"methods.yaml: {name}", set_here, rule, UpdateRuleSettings.choices)
    refuse_unused(f"methods.yaml: {name}", set_here, strategy, StrategySettings.choices)
    tasks = _tasks(benchmark)
    if method.passes is not None and method.visits is not None:
        raise UserError(
            f"methods.yaml: {name}.visits: stands in place of passes, and both are given; remove one of them"
        )
    if method.visits is not None and method.visits < tasks:
        raise UserError(
            f"methods.yaml: {name}.visits: {method.visits} is fewer than the {tasks} tasks of {params.benchmark}, after "
            "each of which the network is measured; raise it"
        )
    own = given(method, Settings.model_fields, NULLABLE)
    override = given(params.optimizer, Settings.model_fields)  # null means the benchmark's value there
    if method.optimizer is not None:  # pinned: a learning rate does not carry over to another update rule
        override = {key: value for key, value in override.items() if key in ONLY_TAG}
    tuned = rule.tuned_name(override | own)
    value: dict[str, Any] = {}
    for layer in (
        benchmark.training,
        benchmark.optimizers.get(tuned),
        benchmark.strategies.get(method.strategy),
        benchmark.regimes.get(method.regime),
        benchmark.combinations.get(f"{tuned}+{method.strategy}"),
        benchmark.combinations.get(f"{tuned}+{method.regime}"),
        benchmark.combinations.get(f"{tuned}+{method.strategy}+{method.regime}"),
    ):
        value |= given(layer, Settings.model_fields, NULLABLE) if layer else {}
    value |= override | own
    for mine, other in (("passes", "visits"), ("visits", "passes")):
        if own.get(mine) is not None:  # what a benchmark has of the other stands back
            value.pop(other, None)
    if strategy.called() == "multitask-passes" and (value.get("visits") or tasks) < tasks:
        raise UserError(
            f"benchmarks.yaml: {params.benchmark}: visits: {value['visits']} for method '{name}' is fewer than the {tasks} "
            "tasks, after each of which the network is measured; raise it"
        )
    if rule.tuned_name(value) != tuned:
        raise UserError(
            f"benchmarks.yaml: {params.benchmark}: base: {value['base']} for method '{name}', whose other values are those "
            f"of {tuned}; set base in methods.yaml or params.yaml instead"
        )

    def filled(model: type[M], section: str, **fixed: Any) -> M:
        """Fill a model with the resolved values; `section` of the benchmark is where a missing one could be added."""
        settings = settings_of(model)
        for key, field in settings.items():
            if field.is_required() and key not in value:
                raise UserError(
                    f"benchmarks.yaml: {params.benchmark}.{section}.{key}: method '{name}' needs it and none is "
                    f"given ({field.description}); add it there, or set {key} of '{name}' in methods.yaml"
                )
        return model(**fixed, **{key: value[key] for key in settings if key in value})

    evaluate = benchmark.training.evaluate
    return RunPlan(
        method=name,
        optimizer=filled(rule, f"optimizers.{tuned}", name=rule.called()),
        strategy=filled(strategy, f"strategies.{method.strategy}", name=method.strategy),
        regime=filled(Regime, f"regimes.{method.regime}"),
        training=filled(TrainingPlan, "training", evaluate=None if evaluate == "all" else evaluate),
        model=benchmark.model,
    )


def _tasks(benchmark: Benchmark) -> int:
    """The number of tasks of a benchmark's stream."""
    if isinstance(benchmark.stream, SequenceStream):
        return len(benchmark.dataset) if isinstance(benchmark.dataset, list) else 1
    return benchmark.stream.tasks


def resolve_data(configuration: Configuration) -> DataPlan:
    """Resolve the plan of the data of the configured benchmark."""
    benchmark = configuration.benchmark
    return DataPlan(
        datasets=benchmark.dataset if isinstance(benchmark.dataset, list) else [benchmark.dataset],
        weights=benchmark.model.weights if isinstance(benchmark.model, Resnet) else "random",
        stream=benchmark.stream,
        evaluation=benchmark.evaluation,
        validation_fraction=benchmark.validation_fraction if benchmark.evaluation == "validation" else None,
    )


def without_effect(configuration: Configuration) -> list[str]:
    """List the values of `optimizer` in params.yaml that no configured method uses, as one line of text each.

    What is null, or the name that stands there unless it is changed, is no value that could be missed.
    """
    params = configuration.params
    rows = [configuration.methods[name] for name in params.methods]
    unused = []
    if params.optimizer.name != PLAIN and all(row.optimizer is not None for row in rows):
        unused.append("name")
    for key in given(params.optimizer, Settings.model_fields):
        having = owners(UpdateRuleSettings.choices, key)  # empty for a setting of the regime, which every method has
        reached = [
            row
            for row in rows
            if (row.optimizer is None or key in ONLY_TAG)
            and (not having or (row.optimizer or params.optimizer.name) in having)
        ]
        if all(key in given(row, Settings.model_fields, NULLABLE) for row in reached):
            unused.append(key)
    return [
        f"params.yaml: optimizer.{key} has no effect: no configured method uses it "
        "(methods that pin an optimizer take their values from benchmarks.yaml and methods.yaml)"
        for key in unused
    ]


def read_run_plan(path: str | Path) -> RunPlan:
    """Read a run plan that the plan stage wrote.

    Args:
        path: The file, named after its method.

    Raises:
        UserError: if the file is missing or invalid, belongs to another method than its name says, or differs from what
            the plan stage would write for these values.
    """
    value = _read_plan(path)
    plan = check(RunPlan, value, f"{path}:")
    if plan.method != Path(path).stem:
        raise UserError(f"{path}: method: is '{plan.method}', which has a file of its own; run 'dvc repro plan'")
    whole = plan.model_dump(exclude_none=True)
    for section, settings in whole.items():
        held = value[section]
        if settings != held:
            keys = settings.keys() ^ held.keys() if isinstance(settings, dict) else set()
            key = f"{section}.{min(keys)}" if keys else section
            what = "missing" if keys and min(keys) not in held else "is not what a plan has there"
            raise UserError(f"{path}: {key}: {what}; run 'dvc repro plan'")
    return plan


def read_data_plan(path: str | Path) -> DataPlan:
    """Read the data plan that the plan stage wrote.

    Raises:
        UserError: if the file is missing or invalid.
    """
    return check(DataPlan, _read_plan(path), f"{path}:")


def _read_plan(path: str | Path) -> Any:
    if not Path(path).exists():
        raise UserError(f"{path}: missing; run 'dvc repro plan' first")
    try:
        value = read_yaml(path)
    except UserError as error:
        raise UserError(f"{str(error).rpartition('; ')[0]}; run 'dvc repro plan'") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: damaged; run 'dvc repro plan'")
    return value
