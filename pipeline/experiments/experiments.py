"""experiments.yaml: what the papers ran, in the words of this project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.config import Configuration, DataPlan, RunPlan, read_configuration, resolve_data, resolve_run
from pipeline.config.reading import check, check_each, read_yaml
from pipeline.config.schema import Method, Settings
from pipeline.config.types import Count, Name, Seed, Strict
from pipeline.support.errors import UserError, nearest

FILE = "experiments.yaml"


class PaperTable(Strict):
    """Rows that the paper shows together. seeds: of each of them."""

    title: str
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=1000)]
    methods: Annotated[list[Name], Field(min_length=1, max_length=1000)]


class Experiment(Strict):
    """One experiment on one benchmark. epochs: instead of the benchmark's. set: values of methods, instead of theirs here.
    eigenspectrum: whether the curvature is part of it. notes: what was found out about it, for the report."""

    paper: Literal["TAG", "Stable SGD"]
    description: str
    benchmark: Name
    epochs: Count | None = None
    eigenspectrum: bool = False
    set: dict[str, Settings] = Field(default_factory=dict)
    tables: Annotated[list[PaperTable], Field(min_length=1)]
    notes: list[str] = Field(default_factory=list)

    @property
    def runs(self) -> list[tuple[str, int]]:
        """Method and seed of every run; all first seeds first, so that what is done early says something about every row."""
        pairs = [(seed, method) for table in self.tables for method in table.methods for seed in table.seeds]
        order = {method: number for number, method in enumerate(self.methods)}
        return [(method, seed) for seed, method in sorted(set(pairs), key=lambda pair: (pair[0], order[pair[1]]))]

    @property
    def methods(self) -> list[str]:
        """All of them, once each."""
        return list(dict.fromkeys(method for table in self.tables for method in table.methods))


def read_experiments(folder: str | Path = ".") -> dict[str, Experiment]:
    """Read and check experiments.yaml against the other files. Raises UserError."""
    folder = Path(folder)
    found = check_each(Experiment, read_yaml(folder / FILE), FILE)
    configuration = read_configuration(folder)
    for name, experiment in found.items():
        if experiment.benchmark not in configuration.benchmarks:
            near = nearest(experiment.benchmark, configuration.benchmarks)
            raise UserError(f"{FILE}: {name}.benchmark: benchmarks.yaml has no '{experiment.benchmark}'; {near}")
        for method in [*experiment.methods, *experiment.set]:
            if method not in configuration.methods:
                near = nearest(method, configuration.methods, 40)
                raise UserError(f"{FILE}: {name}: methods.yaml has no '{method}'; {near}")
    return found


def configured(base: Configuration, name: str, experiment: Experiment) -> Configuration:
    """The configuration of an experiment: all that it does not say is that of the project's files. Raises UserError."""
    benchmark = base.benchmarks[experiment.benchmark]
    if experiment.epochs is not None:
        training = benchmark.training.model_copy(update={"epochs": experiment.epochs})
        benchmark = benchmark.model_copy(update={"training": training})
    methods = dict(base.methods)
    for method, settings in experiment.set.items():
        value = methods[method].model_dump(exclude_none=True) | settings.model_dump(exclude_none=True)
        methods[method] = check(Method, value, f"{FILE}: {name}.set.{method}.")
    plain = type(base.params.optimizer)(name="sgd")  # a person's own params.yaml must not change the papers' rows
    first = experiment.methods[0]
    roles = {
        "stable": "stable" if "stable" in experiment.methods else first,
        "plastic": "plastic" if "plastic" in experiment.methods else first,
        "reference": "plastic" if "plastic" in experiment.methods else first,
    }
    params = base.params.model_copy(
        update={
            "benchmark": experiment.benchmark,
            "optimizer": plain,
            "methods": experiment.methods,
            "seeds": sorted({seed for _, seed in experiment.runs}),
            "figures": base.params.figures.model_copy(update=roles),
            # A quarter faster on the networks of the papers; verdicts are about means over seeds, not about last bits.
            "compute": base.params.compute.model_copy(update={"portable": False}),
        }
    )
    return Configuration(
        params, {experiment.benchmark: benchmark}, {name: methods[name] for name in experiment.methods}
    )


def plans(configuration: Configuration) -> tuple[DataPlan, dict[str, RunPlan]]:
    """The plan of the data, and that of each method."""
    methods = configuration.params.methods
    return resolve_data(configuration), {method: resolve_run(configuration, method) for method in methods}
