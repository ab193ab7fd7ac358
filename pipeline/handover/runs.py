"""Schemas of the results of runs: the metrics of a training, means over the seeds, and the records in results/."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, RootModel, StringConstraints, model_validator

from pipeline.analysis.continual import continual_metrics
from pipeline.analysis.metrics import all_metrics
from pipeline.config.types import Label, Line, Name, Seed
from pipeline.handover.documents import Document, Number, Sha256, Size
from pipeline.handover.logs import Machine
from pipeline.handover.spectra import Spectra
from pipeline.support.errors import UserError

Fraction = Annotated[float, Field(ge=0, le=1)]
#: A difference of two accuracies: forgetting and transfer.
Change = Annotated[float, Field(ge=-1, le=1)]
#: Tolerance for metrics recomputed from the accuracy matrix: both are stored rounded to six digits.
ROUNDING = 5e-6

#: A row of the accuracy matrix; None where a task was not evaluated.
Row = list[Fraction | None]


class ContinualEvaluation(Document):
    """The accuracies of a run while it was trained.

    Attributes:
        steps: For each task, the steps of it that were done at each of its evaluations; the last are all of them.
        accuracy: For each task t (from 1), its evaluations: t accuracies as fractions, on the tasks up to that one.
    """

    steps: Annotated[list[Annotated[list[Number], Field(min_length=1)]], Field(min_length=1)]
    accuracy: list[list[list[Fraction]]]

    @model_validator(mode="after")
    def _agrees(self) -> ContinualEvaluation:
        if [len(evaluations) for evaluations in self.accuracy] != [len(steps) for steps in self.steps]:
            raise ValueError("accuracy must have an evaluation for each number of steps")
        for task, evaluations in enumerate(self.accuracy, start=1):
            if any(len(evaluation) != task for evaluation in evaluations):
                raise ValueError(f"accuracy must have {task} values in each evaluation of task {task}")
        if any(list(steps) != sorted(set(steps)) for steps in self.steps):
            raise ValueError("steps must ascend within each task")
        return self


class Trained(Document):
    """metrics/runs/<method>/<seed>.json: what the training of a run measured on its T tasks.

    The first six fields are the metrics of the accuracy matrix, as `pipeline.analysis.metrics` defines them. The next
    four are those of continual evaluation, as `pipeline.analysis.continual` defines them, absent where the plan has
    none. Those that need two tasks are absent if there is only one.

    Attributes:
        accuracy: (T + 1, T) accuracies as fractions; row 0 is the untrained network. null where a task was not
            evaluated, which can only be one that is neither learnt nor the next one.
        test_loss: (T + 1, T) losses in nats on the same images, laid out like `accuracy`.
        train_loss: For each task, the mean loss over each of several equal stretches of its training steps.
        alpha: TAG's alpha(t, tau): for each task t, a list of such stretches, each with a value for every tau <= t.
            Absent for other update rules.
        continual: The accuracies within the tasks; absent where the plan has no continual evaluation.
        classes: For each task, its classes as the dataset numbers them. Absent where every run has the same tasks.
    """

    average_accuracy: Fraction
    learning_accuracy: Fraction
    forgetting: Change | None = None
    forgetting_paper: Change | None = None
    backward_transfer: Change | None = None
    forward_transfer: Change | None = None
    average_anytime_accuracy: Fraction | None = None
    worst_case_accuracy: Fraction | None = None
    average_minimum_accuracy: Fraction | None = None
    stability_gap: Fraction | None = None
    accuracy: Annotated[list[Row], Field(min_length=2)]
    test_loss: list[list[Size | None]]
    train_loss: list[Annotated[list[float], Field(min_length=1)]]
    alpha: list[Annotated[list[list[Size]], Field(min_length=1)]] | None = None
    continual: ContinualEvaluation | None = None
    classes: list[Annotated[list[Label], Field(min_length=1)]] | None = None

    @property
    def tasks(self) -> int:
        """The number of tasks, T."""
        return len(self.accuracy) - 1

    @model_validator(mode="after")
    def _agrees(self) -> Trained:
        tasks = self.tasks
        matrices: dict[str, Sequence[Sequence[float | None]]] = {"accuracy": self.accuracy, "test_loss": self.test_loss}
        for name, matrix in matrices.items():
            if len(matrix) != tasks + 1 or any(len(row) != tasks for row in matrix):
                raise ValueError(f"{name} must have {tasks + 1} rows of {tasks} values")
            for learnt, row in enumerate(matrix):
                evaluated = row if learnt == 0 else row[: learnt + 1]
                if None in evaluated:
                    raise ValueError(f"{name} must have a value for each task learnt and the next one")
        if len(self.train_loss) != tasks:
            raise ValueError(f"train_loss must have a list for each of {tasks} tasks")
        if self.alpha is not None:
            widths = [{len(point) for point in points} for points in self.alpha]
            if widths != [{task} for task in range(1, tasks + 1)]:
                raise ValueError("alpha must have, for each task, a value for that task and each earlier one")
        if self.classes is not None and len(self.classes) != tasks:
            raise ValueError(f"classes must have a list for each of {tasks} tasks")
        self._give("the accuracy matrix", all_metrics(self.accuracy))
        if self.continual is not None:
            if len(self.continual.steps) != tasks:
                raise ValueError(f"continual must have evaluations of each of {tasks} tasks")
            self._give("its continual evaluation", continual_metrics(self.continual.accuracy))
        if tasks == 1 and any(getattr(self, name) is not None for name in ("forgetting", "forgetting_paper")):
            raise ValueError("forgetting needs two tasks")
        return self

    def _give(self, source: str, metrics: Mapping[str, float]) -> None:
        """Raise ValueError unless the metrics are those of the file, up to rounding."""
        for name, value in metrics.items():
            told = getattr(self, name)
            if told is None or not math.isclose(told, value, rel_tol=0, abs_tol=ROUNDING):
                raise ValueError(f"{name} must be what {source} gives, {value:.6f}")


def check_tasks(trained: Trained, spectra: Spectra | None, path: object, fix: str) -> None:
    """Check that the eigenspectrum of a run has as many tasks as its training.

    Args:
        trained: The metrics of the training.
        spectra: The eigenspectrum; None passes.
        path: The file of the eigenspectrum, for the error message.
        fix: What the user can do about a mismatch; ends the error message.

    Raises:
        UserError: if the numbers of tasks differ.
    """
    if spectra is not None and len(spectra.tasks) != trained.tasks:
        raise UserError(f"{path}: has {len(spectra.tasks)} tasks, the training has {trained.tasks}; {fix}")


#: A method in metrics/methods/<method>.json or metrics/summary.json: the mean of each metric over the seeds; the latter
#: also has its standard deviation, as `<metric>_std`.
Measures = dict[Annotated[str, StringConstraints(pattern="^[a-z_]+$")], float]


class MethodMeasures(RootModel[Measures]):
    """metrics/methods/<method>.json: the means over the seeds that `dvc metrics` shows."""


class Record(Trained):
    """results/<experiment>/runs/<method>-<seed>.json: what a run measured, and what identifies it.

    The inherited `alpha` has a single stretch for each task, and `continual` is left out: its metrics are kept, the
    course within the tasks would be most of the file.

    Attributes:
        plan: Hash of the resolved plan; see `pipeline.experiments.records.Key`, also for `data` and `eigenspectrum`.
        data: Hash of the plan of its data.
        eigenspectrum: Hash of the settings of its eigenspectrum; absent if it has none.
        commit: The Git commit that it ran from.
        images: sha256 of data/tasks/manifest.json.
        sources: What was read of each dataset of one's own, or that no checksum could tell to be published; absent if there
            is none.
        machine: The hardware and software that it used.
        seconds: Wall-clock time of the training; null if unknown.
        spectrum: Its eigenspectrum, present if and only if `eigenspectrum` is.
    """

    method: Name
    seed: Seed
    plan: Sha256
    data: Sha256
    eigenspectrum: Sha256 | None = None
    commit: Annotated[str, StringConstraints(pattern="^[0-9a-f]{40,64}$")]
    images: Sha256
    sources: dict[Name, Line] | None = None
    machine: Machine
    seconds: Size | None
    spectrum: Spectra | None = None

    @model_validator(mode="after")
    def _whole(self) -> Record:
        if (self.eigenspectrum is None) != (self.spectrum is None):
            raise ValueError("spectrum must be there where eigenspectrum is, and only there")
        if self.spectrum is not None and len(self.spectrum.tasks) != self.tasks:
            raise ValueError("spectrum must be of as many tasks as the accuracy matrix")
        return self
