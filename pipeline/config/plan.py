"""From the three files to one plan a method, holding only the values that this method uses.

A train stage depends on its plan alone, and DVC compares contents: it reruns when, and only when, something it uses has
changed. Later layers win:

    the benchmark's training < optimizers.<update rule> < strategies.<strategy> < regimes.<regime>
    < combinations (rule+strategy, rule+regime, rule+strategy+regime) < `optimizer` of params.yaml < the method's own values

`optimizer` of params.yaml reaches the methods that pin no optimizer. Its `base` and `b` mean something to TAG alone, so
they reach every TAG method that does not set them itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.config.reading import Configuration, check, read_yaml
from pipeline.config.schema import (
    BankDtype,
    Count,
    Dataset,
    Evaluated,
    Fisher,
    Fraction,
    Held,
    LearningRate,
    Method,
    Model,
    OptimizerName,
    Resnet,
    Settings,
    Sharpness,
    StrategyName,
    Stream,
    Strict,
    TagBase,
    Weight,
    Weights,
)
from pipeline.support.errors import UserError

#: Values where no layer gives one. The floor of a decaying learning rate is the Stable SGD code's.
DEFAULTS = {
    "lr_decay": 1.0,
    "momentum": 0.0,
    "base": "rmsprop",
    "b": 5.0,
    "dropout": 0.0,
    "fisher": "batch",
    "fisher_batch": 200,
    "penalty_clip": 100.0,
    "memory_per_class": 1,
    "passes": 6,
}
MIN_LR = 5e-5

#: The settings that only some update rules or strategies have; every run has the others.
OF_UPDATE_RULE: dict[str, tuple[str, ...]] = {"sgd": ("momentum",), "tag": ("base", "b", "bank_dtype")}
OF_STRATEGY: dict[str, tuple[str, ...]] = {
    "ewc": ("ewc_lambda", "fisher", "fisher_batch", "penalty_clip"),
    "agem": ("memory_per_class", "extra_forward"),
    "er": ("memory_per_class",),
    "multitask-passes": ("passes", "visits"),
}


class OptimizerPlan(Strict):
    """The update rule and its values; those it does not have are None and left out of the file."""

    name: OptimizerName
    lr: LearningRate
    momentum: Fraction | None = None
    base: TagBase | None = None
    b: Sharpness | None = None
    bank_dtype: BankDtype | None = None


class RegimePlan(Strict):
    """Learning rate of task t (from 1): max(lr * lr_decay^t, min_lr), see `pipeline.training.loop.learning_rate`.

    dropout_at_test: None for no.
    """

    lr_decay: Annotated[float, Field(gt=0, le=1)]
    min_lr: LearningRate | None = None
    dropout: Fraction
    dropout_at_test: Literal[True] | None = None


class StrategyPlan(Strict):
    """What is added to the gradient or the data; settings it does not have are None and left out of the file.

    extra_forward: None for no.
    """

    name: StrategyName
    ewc_lambda: Weight | None = None
    fisher: Fisher | None = None
    fisher_batch: Count | None = None
    penalty_clip: Weight | None = None
    memory_per_class: Count | None = None
    extra_forward: Literal[True] | None = None
    passes: Count | None = None
    visits: Count | None = None


class TrainingPlan(Strict):
    """Examples a step, passes over each task. evaluate: None for all tasks after each task, next for those learnt so far and
    the next one."""

    batch_size: Count
    epochs: Count
    evaluate: Literal["next"] | None = None


class RunPlan(Strict):
    """Everything that training one method needs besides its data and its seed."""

    method: str
    optimizer: OptimizerPlan
    strategy: StrategyPlan
    regime: RegimePlan
    training: TrainingPlan
    model: Model

    @property
    def pretrained(self) -> bool:
        """Whether the network starts from weights that the download stage brings."""
        return isinstance(self.model, Resnet) and self.model.weights != "random"


class DataPlan(Strict):
    """Everything that the data of a benchmark needs.

    datasets: one, or several for a sequence. weights: the initial weights to fetch with them. validation_fraction: None
    where nothing is held out.
    """

    datasets: Annotated[list[Dataset], Field(min_length=1)]
    weights: Weights = "random"
    stream: Stream
    evaluation: Evaluated
    validation_fraction: Held | None = None


def resolve_run(configuration: Configuration, name: str) -> RunPlan:
    """The plan of one method. Raises UserError for a value its update rule does not have, or a missing learning rate."""
    params, benchmark, method = configuration.params, configuration.benchmark, configuration.methods[name]
    optimizer = method.optimizer or params.optimizer.name
    if method.optimizer is not None:  # otherwise the update rule may change from the command line
        _refuse_unused(name, method, optimizer, OF_UPDATE_RULE)
    _refuse_unused(name, method, method.strategy, OF_STRATEGY)
    layers: list[dict[str, Any]] = [DEFAULTS, benchmark.training.model_dump(exclude={"evaluate"})]
    base = None
    if optimizer == "tag":
        base = method.base or params.optimizer.base or DEFAULTS["base"]
    rule = f"tag-{base}" if base else optimizer
    for tuned in (
        benchmark.optimizers.get(rule),  # type: ignore[call-overload]
        benchmark.strategies.get(method.strategy),
        benchmark.regimes.get(method.regime),
        benchmark.combinations.get(f"{rule}+{method.strategy}"),
        benchmark.combinations.get(f"{rule}+{method.regime}"),
        benchmark.combinations.get(f"{rule}+{method.strategy}+{method.regime}"),
    ):
        layers.append(_set_values(tuned) if tuned else {})
    given = _set_values(params.optimizer)
    if method.optimizer is not None:  # pinned: a learning rate does not carry over to another update rule
        given = {key: value for key, value in given.items() if key in OF_UPDATE_RULE["tag"]}
    layers += [given, _set_values(method)]
    value: dict[str, Any] = {}
    for layer in layers:
        value.update(layer)
    if "lr" not in value:
        raise UserError(
            f"benchmarks.yaml: {params.benchmark}.optimizers.{rule}.lr: method '{name}' needs a learning rate and none is "
            f"given; add it there, or set lr of '{name}' in methods.yaml"
        )
    if method.strategy == "ewc" and "ewc_lambda" not in value:
        raise UserError(
            f"benchmarks.yaml: {params.benchmark}.strategies.ewc.ewc_lambda: method '{name}' needs it and none is given; "
            f"add it there, or set ewc_lambda of '{name}' in methods.yaml"
        )
    decays = value["lr_decay"] < 1
    if value["fisher"] == "exact":
        value.pop("fisher_batch")
    if method.passes is not None and method.visits is not None:
        raise UserError(
            f"methods.yaml: {name}.visits: stands in place of passes, and both are given; remove one of them"
        )
    if "visits" in value:
        value.pop("passes")
    value["extra_forward"] = value.get("extra_forward") or None
    return RunPlan(
        method=name,
        optimizer=OptimizerPlan(name=optimizer, lr=value["lr"], **_those(value, OF_UPDATE_RULE.get(optimizer, ()))),
        strategy=StrategyPlan(name=method.strategy, **_those(value, OF_STRATEGY.get(method.strategy, ()))),
        regime=RegimePlan(
            lr_decay=value["lr_decay"],
            min_lr=MIN_LR if decays else None,
            dropout=value["dropout"],
            dropout_at_test=value.get("dropout_at_test") or None,
        ),
        training=TrainingPlan(
            batch_size=value["batch_size"],
            epochs=value["epochs"],
            evaluate=None if benchmark.training.evaluate == "all" else benchmark.training.evaluate,
        ),
        model=benchmark.model,
    )


def resolve_data(configuration: Configuration) -> DataPlan:
    """The plan of the benchmark's data."""
    benchmark = configuration.benchmark
    return DataPlan(
        datasets=benchmark.dataset if isinstance(benchmark.dataset, list) else [benchmark.dataset],
        weights=benchmark.model.weights if isinstance(benchmark.model, Resnet) else "random",
        stream=benchmark.stream,
        evaluation=benchmark.evaluation,
        validation_fraction=benchmark.validation_fraction if benchmark.evaluation == "validation" else None,
    )


def without_effect(configuration: Configuration) -> list[str]:
    """Values of params.yaml's `optimizer` that no configured method uses, each told in a line."""
    params = configuration.params
    rows = [configuration.methods[name] for name in params.methods]
    open_rows = [row for row in rows if row.optimizer is None]
    notes = []
    for key in _set_values(params.optimizer):
        if key in OF_UPDATE_RULE["tag"]:
            used = any((row.optimizer or params.optimizer.name) == "tag" and getattr(row, key) is None for row in rows)
        elif key in OF_UPDATE_RULE["sgd"]:
            used = params.optimizer.name == "sgd" and any(getattr(row, key) is None for row in open_rows)
        else:
            used = any(getattr(row, key) is None for row in open_rows)
        if not used:
            notes.append(
                f"params.yaml: optimizer.{key} has no effect: no configured method uses it "
                "(methods that pin an optimizer take their values from benchmarks.yaml and methods.yaml)"
            )
    return notes


def read_run_plan(path: str | Path) -> RunPlan:
    """Read back what the plan stage wrote. Raises UserError, also for a plan that no configuration resolves to."""
    plan = check(RunPlan, _read_plan(path), f"{path}:")
    wrong = _incomplete(plan)
    if plan.method != Path(path).stem:
        wrong = f"method: is '{plan.method}', which has a file of its own"
    if wrong:
        raise UserError(f"{path}: {wrong}; run 'dvc repro plan'")
    return plan


def _incomplete(plan: RunPlan) -> str | None:
    """A setting that the plan's update rule or strategy needs and lacks, or has no use for."""
    needed = {"sgd": {"momentum"}, "tag": {"base", "b"}, "ewc": {"ewc_lambda", "fisher", "penalty_clip"}}
    needed |= {"agem": {"memory_per_class"}, "er": {"memory_per_class"}}
    parts: list[tuple[str, OptimizerPlan | StrategyPlan, dict[str, tuple[str, ...]]]] = [
        ("optimizer", plan.optimizer, OF_UPDATE_RULE),
        ("strategy", plan.strategy, OF_STRATEGY),
    ]
    for part, section, owners in parts:
        given = {key for key, value in section if value is not None} - {"name", "lr"}
        if lacking := needed.get(section.name, set()) - given:
            return f"{part}.{min(lacking)}: missing, {section.name} needs it"
        if idle := given - set(owners.get(section.name, ())):
            return f"{part}.{min(idle)}: {section.name} has no use for it"
    if plan.strategy.name == "multitask-passes" and (plan.strategy.passes is None) == (plan.strategy.visits is None):
        return "strategy: needs passes or visits, one of them"
    if (plan.regime.lr_decay < 1) != (plan.regime.min_lr is not None):
        return "regime.min_lr: belongs to a learning rate that decays, and only to that"
    return None


def read_data_plan(path: str | Path) -> DataPlan:
    """Read back what the plan stage wrote. Raises UserError."""
    return check(DataPlan, _read_plan(path), f"{path}:")


def _read_plan(path: str | Path) -> Any:
    if not Path(path).exists():
        raise UserError(f"{path}: missing; run 'dvc repro plan' first")
    return read_yaml(path)


def _set_values(settings: Strict) -> dict[str, Any]:
    """The tunable values that are set: neither None nor a name."""
    return {key: value for key, value in settings.model_dump(exclude_none=True).items() if key in Settings.model_fields}


def _those(value: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value[key] for key in keys if key in value}


def _refuse_unused(name: str, method: Method, used: str, owners: dict[str, tuple[str, ...]]) -> None:
    """UserError where the method sets a value that its update rule or strategy, `used`, does not have."""
    for key in sorted({key for keys in owners.values() for key in keys} - set(owners.get(used, ()))):
        if getattr(method, key) is not None:
            having = " and ".join(f"'{owner}'" for owner, keys in owners.items() if key in keys)
            raise UserError(f"methods.yaml: {name}.{key}: '{used}' has no {key}, only {having} have it; remove it")
