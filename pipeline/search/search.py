"""A search as it is asked for: what it tries, on what it depends, and where it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.config import Configuration, RunPlan, resolve_data, resolve_run
from pipeline.config.plan import DataPlan
from pipeline.config.reading import check
from pipeline.config.schema import Method
from pipeline.search.space import Point, Range, Space, corners, grid
from pipeline.support.errors import UserError, nearest

#: Default number of trials of a sampler that could go on for ever, and of trials that do not look at each other.
TRIALS, BATCH = 30, 4
SAMPLERS = ("grid", "tpe", "random")
#: Where the searches are that are under way, and where they are recorded.
FOLDER, RECORDS = Path("scratch/tune"), Path("results/tuning")
#: The rooms of the library on which the numbers of a training depend.
CODE = (
    "analysis", "config", "datasets", "handover", "models", "optimizers", "strategies", "streams", "support", "training",
)  # fmt: skip


@dataclass(frozen=True)
class Search:
    """The search of one method.

    Attributes:
        configuration: The configuration, whose benchmark is searched on validation data.
        method: Name of the method.
        space: What may be tried.
        seeds: The seeds of the trainings; each trial has one run for each.
        sampler: Which values are tried: one of `SAMPLERS`.
        sampler_seed: The seed of the sampler.
        trials: How many trials there are; a grid has as many as it has points.
        prune: Whether a trial is stopped that is below the median of the others.
        batch: How many trials do not look at each other's results, so that they can run side by side.
        record: Name of the record.
    """

    configuration: Configuration
    method: str
    space: Space
    seeds: tuple[int, ...]
    sampler: str = "grid"
    sampler_seed: int = 0
    trials: int = TRIALS
    prune: bool = False
    batch: int = BATCH
    record: str = ""

    @property
    def folder(self) -> Path:
        """Where the search is kept while it is under way."""
        return FOLDER / self.configuration.params.benchmark / (self.record or self.method)

    @property
    def path(self) -> Path:
        """Where the search is recorded."""
        return RECORDS / self.configuration.params.benchmark / f"{self.record or self.method}.csv"

    @property
    def count(self) -> int:
        """The number of trials."""
        return len(grid(self.space)) if self.sampler == "grid" else self.trials

    @property
    def looks(self) -> bool:
        """Whether a trial depends on the results of earlier ones."""
        return self.prune or self.sampler == "tpe"

    @property
    def data(self) -> DataPlan:
        """The plan of the data, with validation images in place of test images."""
        params, benchmarks, methods = vars(self.configuration).values()
        benchmark = self.configuration.benchmark.model_copy(update={"evaluation": "validation"})
        return resolve_data(Configuration(params, {**benchmarks, params.benchmark: benchmark}, methods))

    def plan(self, point: Point) -> RunPlan:
        """Resolve the plan of a point: the method with the point's values in place of its own.

        Raises:
            UserError: if a value is not valid or not used by the method.
        """
        params, benchmarks, methods = vars(self.configuration).values()
        own = methods[self.method].model_dump(exclude_unset=True)  # a null that the method sets stays
        where = f"methods.yaml: {self.method}."
        try:
            changed = check(Method, own | point, where)
            return resolve_run(Configuration(params, benchmarks, {**methods, self.method: changed}), self.method)
        except UserError as error:
            told = str(error)
            for key in point:  # what is wrong with it is not in the file
                told = told.replace(f"{where}{key}", f"'{key}=' of {self.method}")
            raise UserError(told) from None

    def check(self) -> None:
        """Raise UserError if the method is unknown, or if a value is not valid or makes no difference to it."""
        if self.method not in self.configuration.methods:
            known = self.configuration.methods
            raise UserError(f"methods.yaml has no '{self.method}'; {nearest(self.method, known, 40)}")
        for point in grid(self.space) if self.sampler == "grid" else corners(self.space):
            self.plan(point)
        first = corners(self.space)[0]
        for key, axis in self.space.items():
            low, *_, high = (axis.low, axis.high) if isinstance(axis, Range) else (axis.values[0], *axis.values)
            if low != high and self.plan({**first, key: low}) == self.plan({**first, key: high}):
                raise UserError(f"'{key}': changes nothing for {self.method}; leave it out")

    def key(self) -> dict[str, Any]:
        """Return all that the trials depend on, by the name that a message gives it."""
        plans = [
            self.plan(point).model_dump_json() for point in corners(self.space)
        ]  # a value may choose other tuned ones
        package = Path(__file__).parents[1]
        files = sorted(file for room in CODE for file in (package / room).rglob("*.py"))
        return {
            "values": repr(self.space),
            "plan": sha256("".join(plans).encode()).hexdigest(),
            "data": sha256(self.data.model_dump_json().encode()).hexdigest(),
            "seeds": list(self.seeds),
            "sampler": self.sampler,
            "seed of the sampler": self.sampler_seed if self.sampler != "grid" else None,
            "pruning": self.prune,
            "batch": self.batch if self.looks else None,
            "code": sha256(b"".join(file.read_bytes() for file in files)).hexdigest(),
            "version of PyTorch": version("torch"),
            "version of Optuna": version("optuna") if self.looks else None,
        }
