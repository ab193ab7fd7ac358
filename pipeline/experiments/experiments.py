"""experiments.yaml: the papers' experiments, in terms of this project's benchmarks, methods and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from pipeline.config import Configuration, DataPlan, RunPlan, read_configuration, resolve_data, resolve_run
from pipeline.config.reading import check, check_each, read_yaml
from pipeline.config.schema import Method, Settings
from pipeline.config.sections import Eigenspectrum
from pipeline.config.types import Count, Name, Seed, Strict
from pipeline.experiments.records import BESIDE
from pipeline.support.errors import UserError, nearest

FILE = "experiments.yaml"


class PaperTable(Strict):
    """Rows that a paper shows together.

    Attributes:
        title: Title of the table.
        seeds: Seeds with which each row is run.
        methods: The rows, as names in methods.yaml.
    """

    title: str
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=1000)]
    methods: Annotated[list[Name], Field(min_length=1, max_length=1000)]


class Experiment(Strict):
    """A published experiment on one benchmark.

    Attributes:
        paper: The paper that it is from.
        description: One line for lists and titles.
        benchmark: Name in benchmarks.yaml.
        epochs: Replaces the benchmark's number of epochs; None leaves it.
        eigenspectrum: Settings of its eigenspectra, if they are part of the experiment.
        as_published: Whether its methods have the settings of the published rows. The rows of an experiment that has
            other settings on purpose are compared one by one, but kept out of the verdict over all rows.
        reference: The method that the others are compared with; None: plastic, or else the first one.
        missing: What the runs that are not there lack, in one line, such as "the images of CUB".
        set: Name of a method -> values that replace its own in this experiment.
        tables: The paper's tables.
        notes: Findings about the experiment, each a paragraph of the report.
    """

    paper: Literal["TAG", "Stable SGD", "A-GEM"]
    description: str
    benchmark: Name
    epochs: Count | None = None
    eigenspectrum: Eigenspectrum | None = None
    as_published: bool = True
    reference: Name | None = None
    missing: Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)] | None = None
    set: dict[str, Settings] = Field(default_factory=dict)
    tables: Annotated[list[PaperTable], Field(min_length=1)]
    notes: list[str] = Field(default_factory=list)

    @property
    def runs(self) -> list[tuple[str, int]]:
        """Method and seed of every run, in the order of the seeds, so that the first results cover every row."""
        pairs = [(seed, method) for table in self.tables for method in table.methods for seed in table.seeds]
        order = {method: number for number, method in enumerate(self.methods)}
        return [(method, seed) for seed, method in sorted(set(pairs), key=lambda pair: (pair[0], order[pair[1]]))]

    @property
    def methods(self) -> list[str]:
        """The methods of all tables, each once."""
        return list(dict.fromkeys(method for table in self.tables for method in table.methods))


def read_experiments(folder: str | Path = ".") -> dict[str, Experiment]:
    """Read experiments.yaml and check it against the other configuration files of the folder.

    Raises:
        UserError: if one of the files is wrong, or if an experiment names an unknown benchmark or method.
    """
    folder = Path(folder)
    found = check_each(Experiment, read_yaml(folder / FILE), FILE)
    configuration = read_configuration(folder)
    for name, experiment in found.items():
        if experiment.benchmark not in configuration.benchmarks:
            near = nearest(experiment.benchmark, configuration.benchmarks)
            raise UserError(f"{FILE}: {name}.benchmark: benchmarks.yaml has no '{experiment.benchmark}'; {near}")
        if experiment.reference not in (None, *experiment.methods):
            near = nearest(str(experiment.reference), experiment.methods)
            raise UserError(f"{FILE}: {name}.reference: '{experiment.reference}' is not in its tables; {near}")
        for method in [*experiment.methods, *experiment.set]:
            if method not in configuration.methods:
                near = nearest(method, configuration.methods, 40)
                raise UserError(f"{FILE}: {name}: methods.yaml has no '{method}'; {near}")
    return found


def configured(base: Configuration, name: str, experiment: Experiment) -> Configuration:
    """Build the configuration of an experiment.

    Args:
        base: The project's configuration, from which everything comes that the experiment does not set.
        name: Name of the experiment, for errors.
        experiment: The experiment.

    Raises:
        UserError: if the experiment's `set` gives a method a value that is not valid.
    """
    benchmark = base.benchmarks[experiment.benchmark]
    if experiment.epochs is not None:
        training = benchmark.training.model_copy(update={"epochs": experiment.epochs})
        benchmark = benchmark.model_copy(update={"training": training})
    methods = dict(base.methods)
    for method, settings in experiment.set.items():
        # Not what is None because nobody has set it: a null that is written may be a value.
        value = methods[method].model_dump(exclude_unset=True) | settings.model_dump(exclude_unset=True)
        methods[method] = check(Method, value, f"{FILE}: {name}.set.{method}.")
    plain = type(base.params.optimizer)(name="sgd")  # the user's params.yaml must not change the papers' rows
    first = experiment.methods[0]
    roles = {
        "stable": "stable" if "stable" in experiment.methods else first,
        "plastic": "plastic" if "plastic" in experiment.methods else first,
        "reference": experiment.reference or ("plastic" if "plastic" in experiment.methods else first),
    }
    # The user's params.yaml says only what is computed beside the eigenvalues, and changes none of them.
    spectra = base.params.eigenspectrum
    if experiment.eigenspectrum:
        spectra = experiment.eigenspectrum.model_copy(update={key: getattr(spectra, key) for key in BESIDE})
    params = base.params.model_copy(
        update={
            "eigenspectrum": spectra,
            "benchmark": experiment.benchmark,
            "optimizer": plain,
            "methods": experiment.methods,
            "seeds": sorted({seed for _, seed in experiment.runs}),
            "figures": base.params.figures.model_copy(update=roles),
            # A quarter faster on the papers' networks; verdicts compare means over seeds, so exact bytes do not matter.
            "compute": base.params.compute.model_copy(update={"portable": False}),
        }
    )
    return Configuration(
        params, {experiment.benchmark: benchmark}, {name: methods[name] for name in experiment.methods}
    )


def plans(configuration: Configuration) -> tuple[DataPlan, dict[str, RunPlan]]:
    """Resolve the plan of the data and that of each method. Raises UserError if a method's settings do not fit it."""
    methods = configuration.params.methods
    return resolve_data(configuration), {method: resolve_run(configuration, method) for method in methods}
