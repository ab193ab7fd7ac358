from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.config import read_configuration
from pipeline.config.networks import LEAST_SIDE
from pipeline.models.resnet import ReducedResNet18
from pipeline.support.errors import UserError
from tests.conftest import edit


def line(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_configuration(folder)
    text = str(caught.value)
    assert "\n" not in text.strip()
    return text


def test_the_projects_own_files_are_right(configured: Path) -> None:
    configuration = read_configuration(configured)
    assert configuration.params.methods == ["naive", "stable", "rmsprop", "tag", "ewc", "agem", "er", "multitask"]
    assert configuration.benchmark.dataset == "digits"


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("params.yaml", "  lr: null  ", "  lrr: null  ", ["params.yaml: optimizer.lrr", "unknown key", "'lr'"]),
        ("params.yaml", "seeds:", "seed:", ["params.yaml: seed", "unknown key", "'seeds'"]),
        (
            "benchmarks.yaml",
            "    degrees:",
            "    degree:",
            ["benchmarks.yaml: rotated-digits.stream.degree", "'degrees'"],
        ),
        (
            "benchmarks.yaml",
            "  dataset: digits",
            "  data: digits",
            ["benchmarks.yaml: rotated-digits.data", "'dataset'"],
        ),
        ("benchmarks.yaml", "    rmsprop:", "    rmsprob:", ["rotated-digits.optimizers.rmsprob", "'rmsprop'"]),
        ("methods.yaml", "  regime: stable", "  regimen: stable", ["methods.yaml: stable.regimen", "'regime'"]),
        ("methods.yaml", "  regime: stable", "  regime: stabel", ["methods.yaml: stable.regime", "'stable'"]),
        ("params.yaml", "  name: sgd", "  name: sdg", ["params.yaml: optimizer.name", "'sdg'", "did you mean 'sgd'"]),
        ("params.yaml", "rotated-digits", "rotated-digit", ["params.yaml: benchmark", "did you mean 'rotated-digits'"]),
        ("params.yaml", "  - naive", "  - naiv", ["params.yaml: methods", "'naiv'", "did you mean 'naive'"]),
        ("params.yaml", "stable: stable ", "stable: stabel ", ["params.yaml: figures.stable", "did you mean 'stable'"]),
        ("params.yaml", "  lr: null  ", "  lr: 0  ", ["params.yaml: optimizer.lr", "greater than 0", "is 0"]),
        ("params.yaml", "  lr: null  ", "  lr: -1.0  ", ["params.yaml: optimizer.lr", "greater than 0"]),
        ("params.yaml", "  lr: null  ", "  lr: fast  ", ["params.yaml: optimizer.lr", "valid number", "'fast'"]),
        ("params.yaml", "  lr: null  ", "  lr: .inf  ", ["params.yaml: optimizer.lr", "finite"]),
        ("params.yaml", "  lr: null  ", "  lr: true  ", ["params.yaml: optimizer.lr", "valid number"]),
        ("params.yaml", "threads: 1", "threads: 0", ["params.yaml: compute.threads", "greater than or equal to 1"]),
        ("params.yaml", "device: cpu", "device: gpu", ["params.yaml: compute.device", "'gpu'"]),
        ("params.yaml", "solver: power", "solver: qr", ["params.yaml: eigenspectrum.solver", "lanczos, power"]),
        ("params.yaml", "examples: null", "examples: 0", ["params.yaml: eigenspectrum.examples", "equal to 1"]),
        ("params.yaml", "polish: false", "polish: 1", ["params.yaml: eigenspectrum.polish", "boolean"]),
        ("params.yaml", "memory: 2.0", "memory: 0.0", ["params.yaml: compute.memory", "equal to 0.01"]),
        ("params.yaml", "  - 3", "  - 2", ["params.yaml: seeds", "2 stands twice"]),
        ("params.yaml", "  - 3", "  - x", ["params.yaml: seeds.2", "integer"]),
        ("params.yaml", "  - tag", "  - naive", ["params.yaml: methods", "naive stands twice"]),
        (
            "benchmarks.yaml",
            "tasks: 5",
            "tasks: 0",
            ["rotated-digits.stream.tasks", "greater than or equal to 1", "is 0"],
        ),
        ("benchmarks.yaml", "tasks: 5", "tasks: 2.5", ["rotated-digits.stream.tasks", "integer"]),
        ("benchmarks.yaml", "dropout: 0.0", "dropout: 1.5", ["regimes.stable.dropout", "less than 1", "is 1.5"]),
        ("benchmarks.yaml", "name: rotated", "name: rotatd", ["rotated-digits.stream.name", "did you mean 'rotated'"]),
        ("benchmarks.yaml", "    name: rotated\n", "", ["rotated-digits.stream.name: missing"]),
        ("benchmarks.yaml", "  dataset: digits\n", "", ["rotated-digits.dataset: missing"]),
        ("benchmarks.yaml", "dataset: digits", "dataset: digit", ["rotated-digits.dataset: ", "mean 'digits'"]),
        ("benchmarks.yaml", "dataset: digits", "dataset: 5", ["rotated-digits.dataset: ", "unknown 5"]),
        ("benchmarks.yaml", "dataset: digits", "dataset:\n    - digits", ["rotated-digits.dataset", "not a list"]),
        ("benchmarks.yaml", "dataset: digits", "dataset: []", ["rotated-digits.dataset: ", "at least 1"]),
        ("benchmarks.yaml", "    - mnist\n", "    - mnits\n", ["5-datasets.dataset.1: ", "mean 'mnist'"]),
        (
            "benchmarks.yaml",
            "    height: 32\n    width",
            "    hight: 32\n    width",
            ["5-datasets.stream.hight", "'height'"],
        ),
        (
            "benchmarks.yaml",
            "    last_class: 99",
            "    last_class: 9",
            ["stream.last_class: ", "must not be below first_class, 15"],
        ),
        (
            "benchmarks.yaml",
            "    layout: standard",
            "    layout: usual",
            ["chaudhry.model.layout: ", "published, standard"],
        ),
        ("benchmarks.yaml", "    order: run", "    order: runs", ["chaudhry.stream.order: ", "did you mean 'run'"]),
        ("benchmarks.yaml", "    path: my-images", "    pat: my-images", ["own-images.dataset.pat", "'path'"]),
        (
            "benchmarks.yaml",
            "test_fraction: 0.2",
            "test_fraction: 2",
            ["own-images.dataset.test_fraction: ", "less than 1"],
        ),
        ("benchmarks.yaml", "colour: rgb               #", "colour: red #", ["own-images.dataset.colour: ", "'red'"]),
        ("benchmarks.yaml", "weights: imagenet", "weights: imagnet", ["split-cub.model.weights: ", "'imagenet'"]),
        ("methods.yaml", "tag-adam:", "data:", ["methods.yaml: data", "choose another"]),
        ("methods.yaml", "tag-adam:", "Tag/Adam:", ["methods.yaml: Tag/Adam", "lower-case"]),
    ],
)
def test_a_mistake_gets_one_line_that_says_where_and_what(
    configured: Path, file: str, old: str, new: str, told: list[str]
) -> None:
    edit(configured / file, old, new)
    text = line(configured)
    for part in told:
        assert part in text, text


def test_empty_methods(configured: Path) -> None:
    params = configured / "params.yaml"
    text = params.read_text(encoding="utf-8")
    start, end = text.index("methods:"), text.index("seeds:")
    params.write_text(text[:start] + "methods: []\n" + text[end:], encoding="utf-8")
    assert "params.yaml: methods: list must have at least 1 item" in line(configured)


@pytest.mark.parametrize("file", ["params.yaml", "benchmarks.yaml", "methods.yaml"])
def test_malformed_yaml_is_told_with_its_line(configured: Path, file: str) -> None:
    with (configured / file).open("a", encoding="utf-8") as out:
        out.write("\nbroken: [1, 2\nnext: 3\n")
    assert line(configured).startswith(f"{configured / file}:")
    assert "not valid YAML" in line(configured)


def test_a_key_that_stands_twice_is_refused(configured: Path) -> None:
    with (configured / "params.yaml").open("a", encoding="utf-8") as out:
        out.write("benchmark: permuted-digits\n")
    assert 'duplicate key "benchmark"' in line(configured)


def test_a_missing_file_is_named(configured: Path) -> None:
    (configured / "methods.yaml").unlink()
    assert "methods.yaml: missing" in line(configured)


def test_a_file_that_is_no_mapping(configured: Path) -> None:
    (configured / "params.yaml").write_text("- 1\n", encoding="utf-8")
    assert line(configured).endswith("params.yaml: must be a mapping of keys, is [1]; write keys below it")


def test_numbers_are_read_as_dvc_reads_them(configured: Path) -> None:
    edit(configured / "params.yaml", "  lr: null  ", "  lr: 1e-3  ")
    assert read_configuration(configured).params.optimizer.lr == 0.001


def test_a_sequence_needs_a_list_of_datasets(configured: Path) -> None:
    datasets = ("cifar10", "mnist", "svhn", "notmnist", "fashion-mnist")
    edit(configured / "benchmarks.yaml", "".join(f"    - {name}\n" for name in datasets), "    svhn\n")
    assert "5-datasets.dataset: a sequence needs a list of datasets" in line(configured)


@pytest.mark.parametrize(("height", "refused"), [("24", True), ("25", False)])
def test_images_of_ones_own_that_are_too_small_for_the_network_are_told_before_anything_runs(
    configured: Path, height: str, refused: bool
) -> None:
    path = configured / "benchmarks.yaml"
    (sequence,) = re.findall(r"(?ms)^5-datasets:.*?    height: 32", path.read_text(encoding="utf-8"))
    edit(path, sequence, sequence.replace("height: 32", f"height: {height}"))
    if refused:
        assert "5-datasets.model: resnet18-reduced needs images of at least 25x25 pixels, and these are" in line(
            configured
        )
    else:
        assert read_configuration(configured)


def test_the_least_side_is_that_of_the_network() -> None:
    assert ReducedResNet18(5, image_size=(LEAST_SIDE, 40)).head.in_features
    with pytest.raises(ValueError, match=f"at least {LEAST_SIDE}x{LEAST_SIDE} pixels"):
        ReducedResNet18(5, image_size=(40, LEAST_SIDE - 1))
