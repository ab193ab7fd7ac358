"""The manifests beside arrays, weights and eigenvectors: what lies there, in which shape, with which checksum."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from pipeline.config.plan import DataPlan
from pipeline.config.schema import Weights
from pipeline.config.types import Name
from pipeline.handover.documents import Document, Number, Sha256


class Described(Document):
    """A split on disk. shape: (n, height, width[, 3]). sha256: of its images, then of its labels as little-endian int64."""

    shape: Annotated[list[Number], Field(min_length=3, max_length=4)]
    sha256: Sha256


class Splits(Document):
    """Of a dataset."""

    train: Described
    test: Described


class RawEntry(Document):
    """A dataset below data/raw/. folder: its own, as 01-mnist."""

    name: Name
    folder: Annotated[str, StringConstraints(pattern="^[0-9]{2,4}-[a-z0-9-]+$")]
    splits: Splits


class RawManifest(Document):
    """data/raw/manifest.json."""

    datasets: Annotated[list[RawEntry], Field(min_length=1)]


class TaskEntry(Splits):
    """A task below data/tasks/. name: without $, which begins a formula in a figure. classes: of its dataset, by label. made:
    how, in its stream's own words."""

    name: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f$]+$", max_length=10_000)]
    classes: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    made: dict[str, Any]


class TasksManifest(Document):
    """data/tasks/manifest.json. All images have one shape."""

    plan: DataPlan
    tasks: Annotated[list[TaskEntry], Field(min_length=1)]

    def plain(self) -> dict[str, Any]:
        """As it stands in the file, which holds null for what a plan lacks."""
        return self.model_dump()

    @model_validator(mode="after")
    def _agrees(self) -> TasksManifest:
        shapes = {tuple(split.shape[1:]) for task in self.tasks for split in (task.train, task.test)}
        if len(shapes) != 1:
            raise ValueError(
                f"the images of all tasks must have one shape, not {' and '.join(map(str, sorted(shapes)))}"
            )
        for number, task in enumerate(self.tasks, start=1):
            if len(set(task.classes)) != len(task.classes):
                raise ValueError(f"task {number} must name each class once")
        return self


class WeightsManifest(Document):
    """data/weights/manifest.json. source: the checksum of the file that the weights come from; null where they are random."""

    weights: Weights
    source: str | None

    def plain(self) -> dict[str, Any]:
        """As it stands in the file, where null is a value."""
        return self.model_dump()


class EigenvectorsManifest(Document):
    """eigenvectors/<method>/<seed>/manifest.json. saved: whether there are files beside it."""

    saved: bool
    k: Number
