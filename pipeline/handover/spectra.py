"""What the eigenspectrum stage hands on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from pipeline.config.types import Seed
from pipeline.handover.documents import Document, Number, Size


class Movement(Document):
    """How far the weights went from a task to a later one: see `pipeline.spectra.eigenspectrum.Examiner.movement`."""

    task: Number
    distance: Size
    overlap: Annotated[float, Field(ge=0, le=1.01)]
    lambda_distance_squared: float


class Procedure(Document):
    """What the published procedure gives on the same Hessian."""

    eigenvalues: Annotated[list[float], Field(min_length=1)]
    relative_residuals: list[Size]
    products: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _agrees(self) -> Procedure:
        if len(self.relative_residuals) != len(self.eigenvalues):
            raise ValueError("relative_residuals must have one for each eigenvalue")
        return self


class Density(Document):
    """Nodes and weights of a spectral density, a row for each probe."""

    nodes: Annotated[list[list[float]], Field(min_length=1)]
    weights: list[list[Size]]

    @model_validator(mode="after")
    def _agrees(self) -> Density:
        if [len(row) for row in self.nodes] != [len(row) for row in self.weights]:
            raise ValueError("nodes and weights must have the same shape")
        return self


class Spectrum(Document):
    """The largest eigenvalues of the Hessian of one task's loss. task: from 1. products: Hessian-vector products used."""

    task: Number
    eigenvalues: Annotated[list[float], Field(min_length=1)]
    relative_residuals: list[Size]
    converged: list[bool]
    products: Annotated[int, Field(ge=0)]
    examples: Number
    parameters: Number
    movement: list[Movement] | None = None
    published: Procedure | None = None
    density: Density | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Spectrum:
        if not len(self.eigenvalues) == len(self.relative_residuals) == len(self.converged):
            raise ValueError("relative_residuals and converged must have one for each eigenvalue")
        if len(self.eigenvalues) > self.parameters:
            raise ValueError("there cannot be more eigenvalues than parameters")
        return self


class Spectra(Document):
    """metrics/runs/<method>/<seed>.eigenspectrum.json. tasks: each right after it was learnt. end_of_stream: each at the end.
    distance_from_task_1: of all weights after each task from those after the first."""

    distance_from_task_1: Annotated[list[Size], Field(min_length=1)]
    dtype: Annotated[str, StringConstraints(pattern=r"^[a-z]+[0-9]+$")]
    images: Literal["test", "train"]
    seed: Seed
    solver: Literal["power", "lanczos"]
    tasks: list[Spectrum]
    end_of_stream: list[Spectrum] | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Spectra:
        numbers = list(range(1, len(self.distance_from_task_1) + 1))
        for name, spectra in (("tasks", self.tasks), ("end_of_stream", self.end_of_stream)):
            if spectra is not None and [spectrum.task for spectrum in spectra] != numbers:
                raise ValueError(f"{name} must be the tasks 1 to {len(numbers)} in order, as many as distances")
        for spectrum in self.tasks:
            later = [moved.task for moved in spectrum.movement or ()]
            if later != numbers[spectrum.task :]:
                raise ValueError(f"the movement of task {spectrum.task} must be that to each later task")
        return self
