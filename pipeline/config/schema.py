"""The schema of params.yaml, benchmarks.yaml and methods.yaml: every key with its type and range.

Unknown keys are rejected. `Settings` holds the tunable values, as update rules, strategies and regimes declare them. It
has the same fields wherever a value can be set (as a tuned value of a benchmark or as a value of a method), so that a
method can inherit whatever it does not set itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag, ValidationInfo, field_validator

from pipeline.config.regimes import EVALUATE_EVERY, EVALUATE_IMAGES, Regime, RegimeName, TrainingPlan
from pipeline.config.strategies import StrategyName, StrategySettings
from pipeline.config.types import Count, Held, Label, Seed, Side, Strict, Tasks, Threads, Width, optional, settings_of
from pipeline.config.update_rules import TunedRule, UpdateRuleName, UpdateRuleSettings

Evaluated = Literal["test", "validation"]
Colour = Literal["grey", "rgb"]
Pixels = Literal["unit", "symmetric", "imagenet", "mean-image"]
Weights = Literal["random", "imagenet"]
#: The datasets that can be downloaded; `pipeline.datasets.sources` declares where each comes from.
PublicDataset = Literal[
    "digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "svhn", "notmnist", "miniimagenet", "cub"
]


def _combination(text: str) -> str:
    """Validate a key of `combinations`: an update rule, then a strategy, a regime or both, joined by plus signs."""
    rule, *rest = text.split("+")
    strategy = rest and rest[0] in get_args(StrategyName)
    regime = rest and rest[-1] in get_args(RegimeName)
    if rule not in get_args(TunedRule) or not rest or len(rest) != bool(strategy) + bool(regime):
        raise ValueError("must be an update rule, then a strategy, a regime or both, as in sgd+er or sgd+ewc+stable")
    return text


Combination = Annotated[str, AfterValidator(_combination)]

_OF_RULES = settings_of(*UpdateRuleSettings.choices)
_OF_ALL = {**_OF_RULES, **settings_of(Regime, TrainingPlan, *StrategySettings.choices)}
_OF_OPTIMIZER = _OF_RULES | {key: field for key, field in _OF_ALL.items() if field.json_schema_extra["optimizer"]}  # type: ignore[index]

if TYPE_CHECKING:

    class _AnySettings(Strict):
        def __getattr__(self, key: str) -> Any: ...

    Settings = _AnySettings

    class Optimizer(_AnySettings):
        """The update rule of the methods that name none."""

        name: UpdateRuleName
else:
    Settings = optional("Settings", "The tunable values of a run; None means: inherit.", _OF_ALL)
    Optimizer = optional(
        "Optimizer",
        "The update rule of the methods that pin none; a null value means the benchmark's tuned one.",
        _OF_OPTIMIZER,
        name=(UpdateRuleName, ...),
    )


# --- params.yaml


class Eigenspectrum(Strict):
    """The `eigenspectrum` section: what is computed of the curvature of each task's loss, and how."""

    matrix: Literal["hessian", "gauss-newton", "fisher"] = Field(
        "hessian",
        description="the Hessian of the loss, its generalised Gauss-Newton matrix, or the empirical Fisher information",
    )
    solver: Literal["power", "lanczos"] = Field(
        "power", description="deflated power iteration or Lanczos ([curvature](curvature.md))"
    )
    k: Annotated[int, Field(ge=1, le=10_000)] = Field(description="eigenvalues per task")
    tolerance: Annotated[float, Field(gt=0, lt=1)] = Field(description="relative residual to reach")
    max_products: Count = Field(description="Hessian-vector products per pair, at most")
    images: Literal["test", "train"] = Field(description="images of the task that the loss is taken on")
    examples: Count | None = Field(None, description="a seeded subset of so many images of each task; null: all")
    seed: Seed = Field(description="of the start vectors and the subset")
    end_of_stream: bool = Field(False, description="also each task's loss at the end of the stream")
    published: bool = Field(False, description="also what the published procedure gives on the same Hessian")
    polish: bool = Field(False, description="finish in float64")
    save_vectors: bool = Field(False, description="keep the eigenvectors in `eigenvectors/`")
    density_probes: Annotated[int, Field(ge=0, le=1000)] = Field(
        0, description="random vectors of the spectral density; 0: none"
    )
    density_steps: Annotated[int, Field(ge=2, le=10_000)] = Field(60, description="products for each of them")
    prediction: bool = Field(
        False,
        description="also what the quadratic model predicts later tasks to cost, and the loss along the way there",
    )
    trace_probes: Annotated[int, Field(ge=0, le=10_000)] = Field(
        0, description="random vectors of signs for trace and Frobenius norm, a product each; 0: none"
    )
    blocks: bool = Field(False, description="also the largest eigenvalue of the block of each layer")


class Figures(Strict):
    """The `figures` section: the resolution of the figures, and the methods that they and the report compare."""

    dpi: Annotated[int, Field(ge=50, le=1200)] = Field(description="dots per inch of the PNG files")
    vector_formats: Annotated[list[Literal["svg", "pdf"]], Field(max_length=2)] = Field(
        ["svg"], description="vector graphics of each figure beside its PNG file: [svg], [pdf], [svg, pdf] or []"
    )
    stable: str = Field(description="one of the two methods that the figure of three rows sets side by side")
    plastic: str = Field(description="the other one")
    reference: str = Field(description="the method that report and figures compare the others with, seed by seed")


class Compute(Strict):
    """The `compute` section: how to compute, not what. No stage depends on it, so a change here reruns nothing."""

    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$")] = Field(
        description="where to compute: cpu, cuda, cuda:1, mps, auto"
    )
    threads: Threads = Field(description="threads of each stage")
    memory: Annotated[float, Field(ge=0.01, le=10**6)] = Field(
        2.0, description="GiB that an eigenspectrum may keep between Hessian-vector products"
    )
    portable: bool = Field(
        True,
        description="the same bytes on every x86-64 processor with AVX2 ([what holds where](portable.md)); false: "
        "the fastest kernels",
    )

    @property
    def memory_bytes(self) -> int:
        """`memory` in bytes."""
        return int(self.memory * 2**30)


class Params(Strict):
    """The contents of params.yaml: what to run."""

    benchmark: str = Field(description="a name in `benchmarks.yaml`")
    optimizer: Optimizer
    methods: Annotated[list[str], Field(min_length=1, max_length=1000)] = Field(
        description="names in `methods.yaml`, at least one"
    )
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=1000)] = Field(description="at least one")
    eigenspectrum: Eigenspectrum
    figures: Figures
    compute: Compute


# --- benchmarks.yaml


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


class Network(Strict):
    """The settings that all networks share."""

    outputs: Literal["task", "shared"] = Field(
        description="task: each task has outputs of its own, the others masked. shared: one set for all"
    )
    pixels: Pixels = Field(
        "unit",
        description="what 0..255 become: unit [0, 1], symmetric [-1, 1], imagenet (unit, less ImageNet's mean, over "
        "its standard deviation, for each channel), mean-image (unit, less the mean training image of the stream)",
    )


class Mlp(Network):
    """A multi-layer perceptron."""

    name: Literal["mlp"]
    hidden: Annotated[list[Width], Field(max_length=100)] = Field(description="widths of the hidden layers")


#: The least height and width of images for the reduced ResNet-18, of which smaller ones leave nothing to pool.
LEAST_SIDE = 25


class ReducedResnet(Network):
    """The reduced ResNet-18 of the continual-learning experiments, for images of at least 25 pixels a side."""

    name: Literal["resnet18-reduced"]
    layout: Literal["published", "standard"] = Field(
        "published",
        exclude_if=lambda layout: layout == "published",  # so that plans of the first records keep their keys
        description="published: one convolution per block, normalised after the ReLU, as in the code of TAG and Stable "
        "SGD. standard: two, normalised before it, as in GEM's and A-GEM's experiments",
    )


class Resnet(Network):
    """The ResNet-18 of torchvision."""

    name: Literal["resnet18"]
    weights: Weights = Field(
        "random", description="random, or imagenet (trained on ImageNet-1k, with a new last layer)"
    )


Model = Annotated[Mlp | ReducedResnet | Resnet, Field(discriminator="name")]


class Training(Strict):
    """The `training` section of a benchmark: defaults that every method starts from, and the extent of evaluation."""

    batch_size: Count = Field(description="examples per step that every method starts from")
    epochs: Count = Field(description="passes over each task that every method starts from")
    evaluate: Literal["all", "next"] = Field(
        "all",
        description="after each task evaluate `all` tasks, or `next`: those learnt and the next one, which is all "
        "that the metrics need (but for forgetting in [multi-task](metrics.md)) and saves nearly half of the "
        "evaluation on a long stream",
    )
    evaluate_every: Count | None = Field(None, description=EVALUATE_EVERY)
    evaluate_images: Count | None = Field(None, description=EVALUATE_IMAGES)


class Searched(Strict):
    """The `searched` section of a benchmark: how its tuned values were found."""

    note: str = Field(description="how the tuned values were found: the grid, the seeds, the measure")
    record: str | None = Field(None, description="where every run of the search is kept")


class Benchmark(Strict):
    """One benchmark: its data, its model, and its tuned values by update rule, strategy and regime.

    Attributes:
        dataset: A public dataset, a folder of the user's own images, or a list of these for a sequence stream.
        optimizers: Tuned values by update rule (for TAG by base, as in "tag-rmsprop").
        strategies: Tuned values by strategy.
        regimes: Tuned values by regime.
        combinations: Values tuned for an update rule together with a strategy, a regime or both: "sgd+er",
            "sgd+stable", "sgd+ewc+stable".
    """

    description: str = Field(description="in a line")
    dataset: Datasets
    stream: Stream
    evaluation: Evaluated = Field(
        "test",
        description="test: train on all training images, judge on the test images. validation: hold `validation_fraction` of "
        "each class of the training images out of training and judge on it; the test images are not looked at",
    )
    validation_fraction: Held = Field(
        0.2, description="share of each class of the training images held out where `evaluation` is validation"
    )
    model: Model
    training: Training
    optimizers: dict[TunedRule, Settings] = Field(default_factory=dict)
    strategies: dict[StrategyName, Settings] = Field(default_factory=dict)
    regimes: dict[RegimeName, Settings] = Field(default_factory=dict)
    combinations: dict[Combination, Settings] = Field(default_factory=dict)
    searched: Searched | None = None

    @field_validator("model")
    @classmethod
    def _images_large_enough(cls, model: Model, others: ValidationInfo) -> Model:
        """Tell of small images of one's own here, and not after hours of other stages. The network itself checks all."""
        for images in (others.data.get("stream"), others.data.get("dataset")):
            if isinstance(images, ImageShape) and isinstance(model, ReducedResnet):
                if min(images.height, images.width) < LEAST_SIDE:
                    raise ValueError(
                        f"resnet18-reduced needs images of at least {LEAST_SIDE}x{LEAST_SIDE} pixels, and these are brought "
                        f"to {images.height}x{images.width}"
                    )
                break  # a sequence brings all to one shape
        return model


# --- methods.yaml


class Method(Settings):
    """One method: an update rule, a strategy, a regime, and any settings that it fixes itself."""

    description: str = Field(description="in a line")
    optimizer: UpdateRuleName | None = Field(None, description="the update rule; null: the one of `params.yaml`")
    strategy: StrategyName = Field("naive", description="what is added to the gradient or the data")
    regime: RegimeName = Field(
        "plain", description="plain; stable, the Stable SGD paper's; or plastic, what it compares that with"
    )
