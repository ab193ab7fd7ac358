"""Schema of the results of the eigenspectrum stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from pipeline.config.types import Seed
from pipeline.handover.documents import Document, Number, Size


class Movement(Document):
    """How the weights moved from the end of one task to the end of a later one.

    dw is the difference of the weights; see `pipeline.spectra.eigenspectrum.Examiner.movement`.

    Attributes:
        task: The later task, from 1.
        distance: ||dw||.
        overlap: The share of ||dw||^2 within the span of the earlier task's top eigenvectors.
        lambda_distance_squared: lambda_1 ||dw||^2, with the largest eigenvalue of the earlier task; None where all that
            were found are negative, and none of them is lambda_1.
    """

    task: Number
    distance: Size
    overlap: Annotated[float, Field(ge=0, le=1.01)]
    lambda_distance_squared: float | None = None
    gradient_term: float | None = None
    quadratic_term: float | None = None
    line_loss: Annotated[list[Size], Field(min_length=2)] | None = None
    line_accuracy: list[Annotated[float, Field(ge=0, le=1)]] | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Movement:
        predicted = (self.gradient_term, self.quadratic_term, self.line_loss, self.line_accuracy)
        if any(part is None for part in predicted) and any(part is not None for part in predicted):
            raise ValueError("gradient_term, quadratic_term, line_loss and line_accuracy belong together")
        if len(self.line_loss or ()) != len(self.line_accuracy or ()):
            raise ValueError("line_loss and line_accuracy must have the same points")
        return self


class Procedure(Document):
    """The result of the published power iteration on the same Hessian; see `pipeline.curvature.published`.

    Attributes:
        eigenvalues: The eigenvalues by their signed values, the largest first.
        relative_residuals: For each eigenvalue, |H v - lambda v| / |lambda|.
        products: Hessian-vector products used.
    """

    eigenvalues: Annotated[list[float], Field(min_length=1)]
    relative_residuals: list[Size]
    products: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _agrees(self) -> Procedure:
        if len(self.relative_residuals) != len(self.eigenvalues):
            raise ValueError("relative_residuals must have one for each eigenvalue")
        return self


class Density(Document):
    """A spectral density as quadrature nodes and weights, one row for each random probe vector."""

    nodes: Annotated[list[list[float]], Field(min_length=1)]
    weights: list[list[Size]]

    @model_validator(mode="after")
    def _agrees(self) -> Density:
        if [len(row) for row in self.nodes] != [len(row) for row in self.weights]:
            raise ValueError("nodes and weights must have the same shape")
        return self


class TraceAndNorm(Document):
    """Estimates of trace and Frobenius norm with their standard errors; see `pipeline.curvature.Moments`."""

    trace: float
    trace_error: Size | None = None
    frobenius: Size
    frobenius_error: Size | None = None
    products: Annotated[int, Field(ge=0)]


class Block(Document):
    """The largest eigenvalue, by magnitude, of one layer's block.

    Attributes:
        layer: Name of the layer, as in the checkpoints.
        parameters: Number of its parameters.
        eigenvalue: The eigenvalue.
        relative_residual: Its relative residual.
        converged: Whether it reached the tolerance.
        products: Products that it took.
    """

    layer: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]+$", max_length=200)]
    parameters: Number
    eigenvalue: float
    relative_residual: Size
    converged: bool
    products: Annotated[int, Field(ge=0)]


class Spectrum(Document):
    """The largest eigenvalues of the Hessian of one task's loss.

    Attributes:
        task: The task, from 1.
        eigenvalues: The eigenvalues, with their sign.
        relative_residuals: For each eigenvalue, |H v - lambda v| / |lambda|.
        converged: For each eigenvalue, whether its relative residual reached the tolerance.
        products: Hessian-vector products used.
        examples: Images that the loss is taken over.
        parameters: Parameters of the network, which is the size of the Hessian.
        movement: How the weights moved to each later task.
        published: The result of the published procedure, if asked for.
        density: The spectral density, if asked for.
    """

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
    density_moments: TraceAndNorm | None = None
    moments: TraceAndNorm | None = None
    blocks: Annotated[list[Block], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Spectrum:
        if not len(self.eigenvalues) == len(self.relative_residuals) == len(self.converged):
            raise ValueError("relative_residuals and converged must have one for each eigenvalue")
        if len(self.eigenvalues) > self.parameters:
            raise ValueError("there cannot be more eigenvalues than parameters")
        return self


class Spectra(Document):
    """metrics/runs/<method>/<seed>.eigenspectrum.json: the eigenspectrum of a run.

    Attributes:
        distance_from_task_1: For each task, the Euclidean distance of all weights after it from those after task 1.
        dtype: The floating-point type of the eigenpairs, as in float32.
        images: The split whose images the loss is taken over.
        matrix: The matrix whose eigenvalues these are; None, from before there was a choice: the Hessian.
        seed: Seed of the start vectors and of the subset of images.
        solver: The eigensolver.
        tasks: The spectrum of each task's loss right after the task was learnt.
        end_of_stream: The spectrum of each task's loss at the end of the stream, if asked for.
    """

    distance_from_task_1: Annotated[list[Size], Field(min_length=1)]
    dtype: Annotated[str, StringConstraints(pattern=r"^[a-z]+[0-9]+$")]
    images: Literal["test", "train"]
    matrix: Literal["hessian", "gauss-newton", "fisher"] | None = None
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
