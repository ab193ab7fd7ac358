"""Schemas of the manifests beside arrays, weights and eigenvectors: contents, shapes and checksums."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from pipeline.config.networks import Weights
from pipeline.config.plan import DataPlan
from pipeline.config.types import Line, Name
from pipeline.handover.documents import Document, Number, Sha256


class Described(Document):
    """A split on disk.

    Attributes:
        shape: Shape of its images, (n, height, width[, 3]).
        sha256: Checksum of the images' bytes followed by the labels as little-endian int64.
    """

    shape: Annotated[list[Number], Field(min_length=3, max_length=4)]
    sha256: Sha256


class Splits(Document):
    """The two splits of a dataset or a task."""

    train: Described
    test: Described


class RawEntry(Document):
    """A dataset in data/raw/.

    Attributes:
        name: Its name.
        folder: The name of its folder, as in 01-mnist.
        splits: Its train and test split.
        source: What was read, in words, where no checksum could tell that it is what was published, or where it is one's
            own; absent otherwise.
        classes: The names of the classes in the order of their labels; absent where they are known by their numbers.
    """

    name: Name
    folder: Annotated[str, StringConstraints(pattern="^[0-9]{2,4}-[a-z0-9-]+$")]
    splits: Splits
    source: Line | None = None
    classes: list[Line] | None = None


class RawManifest(Document):
    """data/raw/manifest.json."""

    datasets: Annotated[list[RawEntry], Field(min_length=1)]


class TaskEntry(Splits):
    """A task in data/tasks/; see also `pipeline.streams.recipes.TaskView`.

    Attributes:
        name: A short name. It must not contain $, which begins a formula in a figure.
        classes: The classes that it shows, each once.
        made: How it was made; the keys depend on the stream.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f$]+$", max_length=10_000)]
    classes: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    made: dict[str, Any]


class TasksManifest(Document):
    """data/tasks/manifest.json. The images of all tasks have the same shape.

    Attributes:
        plan: The plan of the data from which the tasks were made.
        tasks: The tasks, in order; where every run draws its own (`order: run`), the classes, one each, in their order.
        sources: What was read of each dataset of one's own, or that no checksum could tell to be published, with a sum of
            what came of it. Absent if there is no such dataset.
    """

    plan: DataPlan
    tasks: Annotated[list[TaskEntry], Field(min_length=1)]
    sources: dict[Name, Line] | None = None

    def plain(self) -> dict[str, Any]:
        """The manifest as written to its file, where null stands for settings that the plan does not have."""
        return self.model_dump(exclude={"sources"} if self.sources is None else None)

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
        stream = self.plan.stream
        if stream.name == "split" and stream.order == "run":
            if any(len(task.classes) != 1 for task in self.tasks):
                raise ValueError("each entry must hold one class, because every run draws its own tasks")
            if len(self.tasks) % stream.tasks:
                raise ValueError(f"{len(self.tasks)} classes cannot be split evenly into {stream.tasks} tasks")
        return self


class WeightsManifest(Document):
    """data/weights/manifest.json.

    Attributes:
        weights: The initial weights that the plan names.
        source: Checksum of the published file from which they were converted; null if the weights are random.
    """

    weights: Weights
    source: str | None

    def plain(self) -> dict[str, Any]:
        """The manifest as written to its file, where null is a value of `source`."""
        return self.model_dump()


class EigenvectorsManifest(Document):
    """eigenvectors/<method>/<seed>/manifest.json.

    Attributes:
        saved: Whether the eigenvectors were saved beside the manifest.
        k: The number of eigenpairs per task.
    """

    saved: bool
    k: Number
