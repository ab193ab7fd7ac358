"""What runs leave: metrics, eigenspectra, logs, the means over the seeds, and the records of results/."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, RootModel, StringConstraints, model_validator

from pipeline.analysis.metrics import all_metrics
from pipeline.config.types import Name, Seed
from pipeline.handover.documents import Document, Sha256, Size
from pipeline.handover.logs import Machine
from pipeline.handover.spectra import Spectra
from pipeline.support.errors import UserError

Fraction = Annotated[float, Field(ge=0, le=1)]
#: Of accuracy: forgetting and transfer.
Change = Annotated[float, Field(ge=-1, le=1)]
#: Metrics are rounded to six digits, and so is the matrix that they are computed from.
ROUNDING = 5e-6

Row = list[Fraction | None]


class Trained(Document):
    """metrics/runs/<method>/<seed>.json, what a training measured on its T tasks.

    accuracy, test_loss: (T + 1, T), row 0 the untrained network, null where a task was not evaluated: neither learnt nor
    the next one. train_loss: for each task the mean loss of stretches of its steps. alpha: TAG's alpha(t, tau), for each
    task t in such stretches, each with a value for every tau <= t. The other numbers are the metrics of the matrix;
    those of a single task lack what needs two.
    """

    average_accuracy: Fraction
    learning_accuracy: Fraction
    forgetting: Change | None = None
    forgetting_paper: Change | None = None
    backward_transfer: Change | None = None
    forward_transfer: Change | None = None
    accuracy: Annotated[list[Row], Field(min_length=2)]
    test_loss: list[list[Size | None]]
    train_loss: list[Annotated[list[float], Field(min_length=1)]]
    alpha: list[Annotated[list[list[Size]], Field(min_length=1)]] | None = None

    @property
    def tasks(self) -> int:
        """T."""
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
        for name, value in all_metrics(self.accuracy).items():
            told = getattr(self, name)
            if told is None or not math.isclose(told, value, rel_tol=0, abs_tol=ROUNDING):
                raise ValueError(f"{name} must be what the accuracy matrix gives, {value:.6f}")
        if tasks == 1 and any(getattr(self, name) is not None for name in ("forgetting", "forgetting_paper")):
            raise ValueError("forgetting needs two tasks")
        return self


def check_tasks(trained: Trained, spectra: Spectra | None, path: object, fix: str) -> None:
    """UserError where the eigenspectrum of a run, at `path`, is not of as many tasks as its training."""
    if spectra is not None and len(spectra.tasks) != trained.tasks:
        raise UserError(f"{path}: has {len(spectra.tasks)} tasks, the training has {trained.tasks}; {fix}")


#: metrics/methods/<method>.json, and each method of metrics/summary.json: a metric's mean over the seeds, and its _std.
Measures = dict[Annotated[str, StringConstraints(pattern="^[a-z_]+$")], float]


class MethodMeasures(RootModel[Measures]):
    """metrics/methods/<method>.json."""


class Record(Trained):
    """results/<experiment>/runs/<method>-<seed>.json: what a run measured, and what it was.

    plan, data, eigenspectrum: hashes, see `pipeline.experiments.records.Key`. images: hash of the tasks' manifest. spectrum:
    its eigenspectrum. alpha: as a single stretch for each task.
    """

    method: Name
    seed: Seed
    plan: Sha256
    data: Sha256
    eigenspectrum: Sha256 | None = None
    commit: Annotated[str, StringConstraints(pattern="^[0-9a-f]{40,64}$")]
    images: Sha256
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
