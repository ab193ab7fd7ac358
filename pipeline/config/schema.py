"""The schema of params.yaml, benchmarks.yaml and methods.yaml: every key, its type, its range.

Unknown keys are forbidden. `Settings` holds the tunable values, as update rules, strategies and regimes declare them; it has
the same shape wherever a value can be set (a benchmark's tuned values, a method's own), which is what lets a method inherit
what it does not set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag

from pipeline.config.regimes import Regime, RegimeName, TrainingPlan
from pipeline.config.strategies import StrategyName, StrategySettings
from pipeline.config.types import Count, Held, Seed, Side, Strict, Tasks, Threads, Width, optional, settings_of
from pipeline.config.update_rules import TunedRule, UpdateRuleName, UpdateRuleSettings

Evaluated = Literal["test", "validation"]
Colour = Literal["grey", "rgb"]
Pixels = Literal["unit", "symmetric", "imagenet"]
Weights = Literal["random", "imagenet"]
#: `pipeline.datasets.sources` knows where each comes from.
PublicDataset = Literal[
    "digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "svhn", "notmnist", "miniimagenet", "cub"
]


def _combination(text: str) -> str:
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
        """The update rule of the methods that pin none."""

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
    """solver: power (deflated power iteration) or lanczos. k: eigenvalues a task. tolerance: relative residual to reach.
    max_products: Hessian-vector products a pair at most. images: which images the loss is taken on; examples: a seeded
    subset of so many of a task's, None for all. seed: of the start vectors and the subset. end_of_stream: also each task's
    loss at the end of the stream. published: also what the published procedure gives on the same Hessian. polish: finish in
    float64. save_vectors: keep the eigenvectors. density_probes, density_steps: of the spectral density; 0 probes: none."""

    solver: Literal["power", "lanczos"] = "power"
    k: Annotated[int, Field(ge=1, le=10_000)]
    tolerance: Annotated[float, Field(gt=0, lt=1)]
    max_products: Count
    images: Literal["test", "train"]
    examples: Count | None = None
    seed: Seed
    end_of_stream: bool = False
    published: bool = False
    polish: bool = False
    save_vectors: bool = False
    density_probes: Annotated[int, Field(ge=0, le=1000)] = 0
    density_steps: Annotated[int, Field(ge=2, le=10_000)] = 60


class Figures(Strict):
    """dpi: dots an inch of the PNG files. stable, plastic: the two methods that the three-row figure sets side by side.
    reference: the method that the report compares the others with, seed by seed."""

    dpi: Annotated[int, Field(ge=50, le=1200)]
    stable: str
    plastic: str
    reference: str


class Compute(Strict):
    """How, not what: nothing depends on it. memory: GiB that an eigenspectrum may keep for its Hessian-vector products.
    portable: whether one thread of a CPU gives the same bytes on every x86-64 processor with AVX2."""

    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$")]
    threads: Threads
    memory: Annotated[float, Field(ge=0.01, le=10**6)] = 2.0
    portable: bool = True

    @property
    def memory_bytes(self) -> int:
        """memory, in bytes."""
        return int(self.memory * 2**30)


class Params(Strict):
    """params.yaml."""

    benchmark: str
    optimizer: Optimizer
    methods: Annotated[list[str], Field(min_length=1, max_length=1000)]
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=1000)]
    eigenspectrum: Eigenspectrum
    figures: Figures
    compute: Compute


# --- benchmarks.yaml


class ImageShape(Strict):
    """What images are brought to: pixels, and grey (one value a pixel) or rgb (three)."""

    height: Side
    width: Side
    colour: Colour = "rgb"

    @property
    def array(self) -> tuple[int, ...]:
        """(height, width) of grey images, (height, width, 3) of RGB ones."""
        return (self.height, self.width) if self.colour == "grey" else (self.height, self.width, 3)


class Folder(ImageShape):
    """One's own images: a folder, .tar, .tar.gz or .zip of class folders.

    path: relative to the folder of TAG_DATASETS, where it is there, or to the project. test_fraction: None where it holds
    train/<class>/ and test/<class>/; otherwise the share of each class (<class>/) that becomes the test images, drawn with
    `seed`.
    """

    path: Annotated[str, StringConstraints(min_length=1, max_length=4000, pattern=r"^[^\x00-\x1f]+$")]
    test_fraction: Held | None = None
    seed: Seed = 0


def _kind(value: Any) -> str:
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


class RotatedStream(Strict):
    """Task t (from 0) shows every image turned by t * degrees - U(0, jitter) degrees, counter-clockwise."""

    name: Literal["rotated"]
    tasks: Tasks
    degrees: Annotated[float, Field(ge=-360, le=360)]
    jitter: Annotated[float, Field(ge=0, le=360)] = 0.0
    interpolation: Literal["nearest", "bilinear"] = "nearest"
    seed: Seed = 0


class PermutedStream(Strict):
    """Every task shows the images with its own fixed permutation of the pixels; the first task's is the identity."""

    name: Literal["permuted"]
    tasks: Tasks
    seed: Seed = 0


class SplitStream(Strict):
    """Every task shows its own share of the classes. order: labelled (task 1 the first classes) or seeded (shuffled)."""

    name: Literal["split"]
    tasks: Tasks
    order: Literal["labelled", "seeded"] = "labelled"
    seed: Seed = 0


class SequenceStream(ImageShape):
    """Every task shows a dataset of its own, all classes of it, its images brought to one shape."""

    name: Literal["sequence"]
    seed: Seed = 0


Stream = Annotated[RotatedStream | PermutedStream | SplitStream | SequenceStream, Field(discriminator="name")]


class Network(Strict):
    """What every network has.

    outputs: task (each task its own, the others masked) or shared (one set for all). pixels: what 0..255 become: unit
    [0, 1], symmetric [-1, 1], or imagenet (unit, then each channel less ImageNet's mean, over its standard deviation).
    """

    outputs: Literal["task", "shared"]
    pixels: Pixels = "unit"


class Mlp(Network):
    """A multi-layer perceptron. hidden: widths of its hidden layers."""

    name: Literal["mlp"]
    hidden: Annotated[list[Width], Field(max_length=100)]


class ReducedResnet(Network):
    """The reduced ResNet-18 of the published experiments, for square images of at least 25 pixels."""

    name: Literal["resnet18-reduced"]


class Resnet(Network):
    """torchvision's ResNet-18. weights: random, or imagenet (trained on ImageNet-1k, a new last layer)."""

    name: Literal["resnet18"]
    weights: Weights = "random"


Model = Annotated[Mlp | ReducedResnet | Resnet, Field(discriminator="name")]


class Training(Strict):
    """What every method starts from: examples a step, passes over each task; and the tasks that are evaluated after each
    task: all, or those learnt so far and the next one, which is what the metrics need and half the time of a long stream."""

    batch_size: Count
    epochs: Count
    evaluate: Literal["all", "next"] = "all"


class Searched(Strict):
    """How tuned values were found: the grid, the seeds, the measure; and where every number of the search is kept, if any."""

    note: str
    record: str | None = None


class Benchmark(Strict):
    """One benchmark: its data, its model, and the tuned values by update rule, strategy and regime.

    dataset: a public dataset, one's own folder, or a list of them for a sequence.

    combinations: values tuned for an update rule together with a strategy, a regime or both: "sgd+er", "sgd+stable",
    "sgd+ewc+stable".

    evaluation: test (train on all training images, judge on the test images) or validation (hold `validation_fraction` of
    each class of the training images out of training and judge on them; the test images stay untouched: for tuning).
    """

    description: str
    dataset: Datasets
    stream: Stream
    evaluation: Evaluated = "test"
    validation_fraction: Held = 0.2
    model: Model
    training: Training
    optimizers: dict[TunedRule, Settings] = Field(default_factory=dict)
    strategies: dict[StrategyName, Settings] = Field(default_factory=dict)
    regimes: dict[RegimeName, Settings] = Field(default_factory=dict)
    combinations: dict[Combination, Settings] = Field(default_factory=dict)
    searched: Searched | None = None


# --- methods.yaml


class Method(Settings):
    """A named row: an update rule (None: the one of params.yaml), a strategy, a regime, and values of its own."""

    description: str
    optimizer: UpdateRuleName | None = None
    strategy: StrategyName = "naive"
    regime: RegimeName = "plain"
