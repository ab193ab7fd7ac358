"""What benchmarks.yaml may say of images: where they come from, and how they become a stream of tasks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag, ValidationInfo, field_validator

from pipeline.config.types import Held, Label, Seed, Side, Strict, Tasks

Colour = Literal["grey", "rgb"]
#: The datasets that can be downloaded; `pipeline.datasets.sources` declares where each comes from.
PublicDataset = Literal[
    "digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "svhn", "notmnist", "miniimagenet", "cub"
]


class ImageShape(Strict):
    """The size and colour mode that images are converted to."""

    height: Side = Field(description="rows that images are brought to")
    width: Side = Field(description="columns")
    colour: Colour = Field("rgb", description="grey: one value per pixel; rgb: three")

    @property
    def array(self) -> tuple[int, ...]:
        """The shape of an image as an array: (height, width) if grey, (height, width, 3) if RGB."""
        return (self.height, self.width) if self.colour == "grey" else (self.height, self.width, 3)


class Folder(ImageShape):
    """The user's own images: a folder or archive (.tar, .tar.gz or .zip) with one folder for each class."""

    path: Annotated[str, StringConstraints(min_length=1, max_length=4000, pattern=r"^[^\x00-\x1f]+$")] = Field(
        description="one's own class folders: a folder, .tar, .tar.gz or .zip, below `TAG_DATASETS` or relative to "
        "the project"
    )
    test_fraction: Held | None = Field(
        None, description="the share of each class that becomes the test images; null where there are train/ and test/"
    )
    seed: Seed = Field(0, description="of that share")


def _kind(value: Any) -> str:
    """The tag of a `dataset` value in the unions below, by its type."""
    return "several" if isinstance(value, list) else "folder" if isinstance(value, dict | Folder) else "named"


Dataset = Annotated[
    Annotated[PublicDataset, Tag("named")] | Annotated[Folder, Tag("folder")],
    Discriminator(_kind),
]
Datasets = Annotated[
    Annotated[PublicDataset, Tag("named")]
    | Annotated[Folder, Tag("folder")]
    | Annotated[list[Dataset], Field(min_length=1, max_length=1000), Tag("several")],
    Discriminator(_kind),
]


def _absent(value: object) -> bool:
    """Whether a field is left out of plans and manifests."""
    return value is None


class RotatedStream(Strict):
    """A stream whose task t (from 0) rotates all images counter-clockwise by t * degrees - U(0, jitter) degrees."""

    name: Literal["rotated"]
    tasks: Tasks = Field(description="number of tasks")
    degrees: Annotated[float, Field(ge=-360, le=360)] = Field(
        description="task t (from 0) is turned by t · degrees − U(0, jitter), counter-clockwise"
    )
    jitter: Annotated[float, Field(ge=0, le=360)] = Field(0.0, description="the largest random part")
    interpolation: Literal["nearest", "bilinear"] = Field("nearest", description="of the turned images")
    seed: Seed = Field(0, description="of everything random in the stream, and of what is held out")


class PermutedStream(Strict):
    """A stream whose tasks each apply a fixed permutation to the pixels of all images, the first task the identity."""

    name: Literal["permuted"]
    tasks: Tasks = Field(description="number of tasks")
    seed: Seed = Field(0, description="of everything random in the stream, and of what is held out")


class SplitStream(Strict):
    """A stream whose tasks each have their own share of the classes, of all or of those from one to another.

    With the order `run`, every run draws its own tasks; see `pipeline.streams.reader`.
    """

    name: Literal["split"]
    tasks: Tasks = Field(description="number of tasks")
    # Left out where they are not given, so that the plans and manifests of other streams keep their keys.
    first_class: Label | None = Field(
        None, exclude_if=_absent, description="the first class of the stream; null: that of the dataset"
    )
    last_class: Label | None = Field(
        None, exclude_if=_absent, description="the last class of the stream; null: that of the dataset"
    )
    order: Literal["labelled", "seeded", "run"] = Field(
        "labelled",
        description="labelled (task 1 the first classes), seeded (shuffled), or run (shuffled anew in every run, from the "
        "seed of the run alone)",
    )
    seed: Seed = Field(0, description="of everything random in the stream, and of what is held out")

    @field_validator("last_class")
    @classmethod
    def _ascending(cls, last: int | None, others: ValidationInfo) -> int | None:
        first = others.data.get("first_class")
        if last is not None and first is not None and last < first:
            raise ValueError(f"must not be below first_class, {first}")
        return last


class SequenceStream(ImageShape):
    """A stream whose tasks each have their own dataset with all its classes, the images converted to a common shape."""

    name: Literal["sequence"]
    seed: Seed = Field(0, description="of everything random in the stream, and of what is held out")


Stream = Annotated[RotatedStream | PermutedStream | SplitStream | SequenceStream, Field(discriminator="name")]
