"""The curvature of the loss of each task of a run.

For each task: eigenvalues of the Hessian (or of a matrix that stands for it), the spectral density, trace and Frobenius
norm, the blocks of single layers, how the weights move relative to the eigenvectors, and what the quadratic model of the
loss predicts of that.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.config.sections import Eigenspectrum
from pipeline.curvature import (
    EigenResult,
    deflated_power_iteration,
    density_moments,
    hutchinson,
    lanczos,
    published_power_iteration,
    spectral_density,
)
from pipeline.models import TaskModel, TaskTensors, load_task, outputs_of_tasks
from pipeline.spectra.matrices import CurvatureOperator, gradient_of, operator_of
from pipeline.spectra.prediction import layers, line, moments_entry, state_of, terms
from pipeline.streams.reader import Tasks
from pipeline.support.errors import UserError
from pipeline.support.files import significant
from pipeline.support.scratch import Scratch
from pipeline.training.evaluation import evaluate

#: Eigensolvers by the name that `eigenspectrum.solver` gives them.
SOLVERS: dict[str, Callable[..., EigenResult]] = {"power": deflated_power_iteration, "lanczos": lanczos}
#: Relative residual at which a polish in float64 takes over; float32 reaches it easily.
BEFORE_POLISH = 1e-4

#: Called with a description of the present work.
Tell = Callable[[str], None]


@dataclass
class RunSpectra:
    """The curvature found so far in a run.

    Attributes:
        entries: For each task, the spectrum of its loss right after it was learnt, and the movement of the weights
            since then; values for JSON.
        end_of_stream: For each task, the spectrum of its loss at the end of the stream; empty if not asked for.
        vectors: For each task, its eigenvectors, (n, k) on the CPU; empty if not asked for.
        distances: For each task, the Euclidean distance of all weights after it from those after the first task.
    """

    entries: list[dict[str, Any]] = field(default_factory=list)
    end_of_stream: list[dict[str, Any]] = field(default_factory=list)
    vectors: list[Tensor] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)


class Examiner:
    """Computes the curvature that the settings ask for, task by task.

    Args:
        model: The network, in eval mode and on the device to compute on.
        tasks: The stream.
        mode: "task" or "shared", the outputs of the plan's network (see `pipeline.models.outputs_of_tasks`).
        settings: The section `eigenspectrum` of params.yaml.
        restore: Sets the weights of `model` to those after a task, given by its number from 0.
        memory: Bytes that retained graphs may take together.
        tell: Called with a description of the present work, for a progress bar.

    Raises:
        UserError: if more eigenvalues are asked for than the network has parameters.
    """

    def __init__(
        self,
        model: TaskModel,
        tasks: Tasks,
        mode: Any,
        settings: Eigenspectrum,
        restore: Callable[[int], None],
        memory: int,
        tell: Tell = lambda text: None,
    ) -> None:
        self.model, self.tasks, self.settings = model, tasks, settings
        self.outputs: Sequence[Sequence[int]] = outputs_of_tasks(tasks.classes, mode)
        self.restore, self.memory, self.tell = restore, memory, tell
        self.device = next(model.parameters()).device
        if settings.k > (count := sum(parameter.numel() for parameter in model.parameters())):
            raise UserError(
                f"params.yaml: eigenspectrum.k: must be at most {count}, the parameters of the network, is {settings.k}"
            )

    def steps(self) -> int:
        """The number of spectra to compute."""
        return len(self.tasks) * (2 if self.settings.end_of_stream else 1)

    def run(self, done: Callable[[], None] = lambda: None, scratch: Scratch | None = None) -> RunSpectra:
        """Compute the spectra of all tasks, in order.

        Args:
            done: Called once for each spectrum when it is there, also for those that `scratch` held.
            scratch: Where all that was found is saved after each spectrum. If it already holds a state, the computation
                continues from there. None: nothing is saved.

        Raises:
            UserError: if a file of a task is missing or damaged; `restore` may raise it too.
        """
        kept = scratch.load() if scratch else None
        found = RunSpectra(**kept["found"]) if kept else RunSpectra()

        def finish() -> None:
            done()
            if scratch:
                spectra = len(found.entries) + len(found.end_of_stream)
                scratch.save(f"spectrum {spectra + 1} of {self.steps()}", {"found": vars(found)})

        for _ in found.entries + found.end_of_stream:
            done()
        first = self.weights(0)
        for number in range(len(found.entries), len(self.tasks)):
            found.distances.append(
                significant(float(torch.linalg.vector_norm((self.weights(number) - first).double())))
            )
            entry, vectors = self.when_learnt(number)
            found.entries.append(entry)
            if self.settings.save_vectors:
                found.vectors.append(vectors.cpu())
            finish()
        if self.settings.end_of_stream:
            self.restore(len(self.tasks) - 1)
            for number in range(len(found.end_of_stream), len(self.tasks)):
                found.end_of_stream.append(self.at_the_end(number))
                finish()
        return found

    def when_learnt(self, number: int) -> tuple[dict[str, Any], Tensor]:
        """Compute the spectrum of a task (from 0) right after it was learnt, and how the weights moved from there.

        Returns:
            An entry for JSON, and the eigenvectors, (n, k).
        """
        self.restore(number)
        name, examples = f"task {number + 1}", self.examples(number)
        # On a model of its own: the weights of other tasks are restored while its graphs are in use.
        operator = self.operator(copy.deepcopy(self.model), examples)
        entry, result = self.spectrum(number, operator, examples, name)
        if number + 1 < len(self.tasks):
            entry["movement"] = list(self.movement(number, result, operator, examples, name))
        return entry, result.eigenvectors

    def at_the_end(self, number: int) -> dict[str, Any]:
        """Compute the spectrum of a task (from 0) at the weights of `model`, those at the end of the stream."""
        examples = self.examples(number)
        entry, _ = self.spectrum(number, self.operator(self.model, examples), examples, f"task {number + 1} at the end")
        return entry

    def weights(self, task: int) -> Tensor:
        """All weights after a task (from 0), (n,)."""
        self.restore(task)
        return torch.nn.utils.parameters_to_vector(self.model.parameters()).detach().clone()

    def spectrum(
        self, number: int, operator: CurvatureOperator, examples: TaskTensors, name: str
    ) -> tuple[dict[str, Any], EigenResult]:
        """Compute the spectrum of a task's loss at the present weights.

        Args:
            number: The number of the task, from 0.
            operator: The matrix, at these weights.
            examples: The examples that it is taken on.
            name: What is computed, for the progress bar.

        Returns:
            An entry for JSON, and the eigenpairs. The entry has the task (from 1), its eigenvalues with relative
            residuals and convergence, the number of products, examples and parameters, and, if asked for, the result of
            the published procedure, the spectral density, trace and Frobenius norm, and the largest eigenvalue of each
            layer's block.
        """
        settings = self.settings
        result = self.solve(operator, examples, name)
        entry: dict[str, Any] = {
            "task": number + 1,
            "eigenvalues": [significant(value) for value in result.eigenvalues.tolist()],
            # Two digits: a residual is a bound on the error, and its last digits are rounding.
            "relative_residuals": [significant(value, 2) for value in result.relative_residuals.tolist()],
            "converged": result.converged.tolist(),
            "products": result.matvecs,
            "examples": operator.examples,
            "parameters": operator.shape[0],
        }
        if settings.published:
            self.tell(f"{name}, published procedure")
            other = published_power_iteration(
                operator, len(entry["eigenvalues"]), tolerance=settings.tolerance, seed=settings.seed
            )
            entry["published"] = {
                "eigenvalues": [significant(value) for value in other.eigenvalues.tolist()],
                "relative_residuals": [significant(value, 2) for value in other.relative_residuals.tolist()],
                "products": other.matvecs,
            }
        if settings.density_probes:
            density = spectral_density(
                operator,
                settings.density_probes,
                settings.density_steps,
                seed=settings.seed,
                memory=self.memory - operator.bytes_retained,
                report=lambda product: self.tell(f"{name}, density, product {product}"),
            )
            entry["density"] = {
                "nodes": [[significant(value) for value in row] for row in density.nodes.tolist()],
                "weights": [[significant(value) for value in row] for row in density.weights.tolist()],
            }
            entry["density_moments"] = moments_entry(density_moments(density, operator.shape[0]))
        if settings.trace_probes:
            moments = hutchinson(
                operator,
                settings.trace_probes,
                seed=settings.seed,
                report=lambda product: self.tell(f"{name}, trace, product {product}"),
            )
            entry["moments"] = moments_entry(moments)
        if settings.blocks:
            with operator.released():
                entry["blocks"] = list(self.blocks(examples, name))
        return entry, result

    def blocks(self, examples: TaskTensors, name: str) -> Iterator[dict[str, Any]]:
        """Compute the largest eigenvalue by magnitude of each layer's block, at the present weights.

        Blocks are not polished: where the settings ask for it, their tolerance is one that float32 reaches.

        Yields:
            For each layer, from input to output, an entry for JSON.
        """
        tolerance = max(self.settings.tolerance, BEFORE_POLISH) if self.settings.polish else self.settings.tolerance
        for layer, parameters in layers(self.model).items():
            result = SOLVERS[self.settings.solver](
                self.operator(self.model, examples, parameters),
                1,
                tolerance=tolerance,
                max_products=self.settings.max_products,
                seed=self.settings.seed,
                report=lambda pair, residual, layer=layer: self.tell(f"{name}, layer {layer}, residual {residual:.1e}"),
            )
            yield {
                "layer": layer,
                "parameters": sum(parameter.numel() for parameter in parameters),
                "eigenvalue": significant(float(result.eigenvalues[0])),
                "relative_residual": significant(float(result.relative_residuals[0]), 2),
                "converged": bool(result.converged[0]),
                "products": result.matvecs,
            }

    def solve(self, operator: CurvatureOperator, examples: TaskTensors, name: str) -> EigenResult:
        """Find the k largest eigenpairs; if the settings ask for a polish, finish in float64.

        Args:
            operator: The Hessian.
            examples: The examples of its loss, for the float64 Hessian.
            name: What is computed, for the progress bar.

        Returns:
            The pairs, float64 after a polish; all products are counted.
        """
        settings = self.settings
        solver = SOLVERS[settings.solver]

        def show(pair: int, residual: float) -> None:
            self.tell(f"{name}, pair {pair + 1}, residual {residual:.1e}")

        k = settings.k
        tolerance = max(settings.tolerance, BEFORE_POLISH) if settings.polish else settings.tolerance
        options: dict[str, Any] = {"max_products": settings.max_products, "seed": settings.seed, "report": show}
        result = solver(operator, k, tolerance=tolerance, **options)
        if not settings.polish:
            return result
        with operator.released():
            double = self.operator(copy.deepcopy(self.model).double(), examples)
            # The power iteration starts from all given vectors; Lanczos starts from one.
            polished = deflated_power_iteration(
                double, k, tolerance=settings.tolerance, start=result.eigenvectors.double(), **options
            )
            del double
        return EigenResult(
            polished.eigenvalues,
            polished.eigenvectors,
            polished.residuals,
            polished.converged,
            polished.matvecs + result.matvecs,
        )

    def operator(
        self, model: TaskModel, examples: TaskTensors, parameters: Iterable[Tensor] | None = None
    ) -> CurvatureOperator:
        """The matrix that the settings name, of the mean cross-entropy (nats) of some examples of one task.

        Args:
            model: The network; a float64 copy for a polish.
            examples: The examples.
            parameters: Those that the matrix is over; None: all of the model.
        """
        return operator_of(model, examples, self.settings.matrix, self.memory, parameters)

    def examples(self, number: int) -> TaskTensors:
        """The images of a task (from 0): all of them, or the seeded subset that the settings ask for."""
        task = load_task(self.tasks, number, self.settings.images, self.outputs, self.device)
        count = self.settings.examples
        if count is None or count >= len(task):
            return task
        draw = np.random.default_rng([self.settings.seed, number]).permutation(len(task))[:count]
        chosen = torch.from_numpy(np.sort(draw)).to(self.device)
        return TaskTensors(task.task, task.images[chosen], task.labels[chosen])

    def movement(
        self, number: int, result: EigenResult, operator: CurvatureOperator, examples: TaskTensors, name: str
    ) -> Iterator[dict[str, Any]]:
        """How the weights move while later tasks are learnt, relative to the curvature of a task once it was learnt.

            forgetting <= lambda_1 |dw|^2 / 2     to second order (Stable SGD, section 3)

        Args:
            number: The number of the task, from 0.
            result: Its eigenpairs right after it was learnt.
            operator: The matrix of its loss then. The model that it differentiates is not `self.model`.
            examples: The examples that it is taken on.
            name: What is computed, for the progress bar.

        Yields:
            For each later task an entry for JSON: `task` (from 1); `distance`, |dw|; `overlap`, the share of |dw|^2
            within the span of the eigenvectors; `lambda_distance_squared`, lambda_1 |dw|^2, which is twice the bound
            on the rise of the loss, or None where all eigenvalues found are negative; and, if a prediction is asked
            for, the terms of the quadratic model and the loss and accuracy along the line between the weights (see
            `pipeline.spectra.prediction`).
        """
        after = self.weights(number).double()
        vectors = result.eigenvectors.double()
        largest = float(result.eigenvalues.max())
        predicted = self.settings.prediction
        if predicted:
            start, at_start = state_of(self.model), evaluate(self.model, examples)
            gradient = gradient_of(operator, self.model, examples, self.memory)
        for later in range(number + 1, len(self.tasks)):
            moved = self.weights(later).double() - after
            square = float(moved @ moved)
            inside = float(((vectors.T @ moved) ** 2).sum())
            entry: dict[str, Any] = {
                "task": later + 1,
                "distance": significant(square**0.5),
                "overlap": significant(inside / square, 4) if square > 0 else 0.0,
                # Of a matrix whose largest eigenvalues by magnitude are all negative, lambda_1 is not among them.
                "lambda_distance_squared": significant(largest * square) if largest >= 0 else None,
            }
            if predicted:
                self.tell(f"{name}, prediction for task {later + 1}")
                entry |= terms(operator, gradient, moved)
                entry |= line(self.model, examples, start, state_of(self.model), at_start)
            yield entry
