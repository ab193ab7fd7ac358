"""The same bytes on other processors, which qemu-user shows to a process: no second machine is needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.clones import ENVIRONMENT, Clone, copy_of

QEMU = shutil.which("qemu-x86_64")
#: One of each maker, by the name that the processor gives it. Both have AVX2; qemu 7.2 knows no AVX-512.
PROCESSORS = {"GenuineIntel": "Haswell", "AuthenticAMD": "EPYC"}

#: The files that two processes made: names and bytes.
Both = tuple[dict[str, bytes], dict[str, bytes]]

pytestmark = pytest.mark.skipif(QEMU is None, reason="no qemu-x86_64 here (Debian's package qemu-user)")

#: Runs the stages of some runs in one process: an import of PyTorch takes a quarter of a minute there. Each argument: stage,
#: method and seed, joined by colons.
DRIVER = """
import sys
from stages.process import begin
begin("__main__")
import importlib
for word in sys.argv[1:]:
    stage, method, seed = word.split(":")
    module = importlib.import_module(f"stages.{stage}")
    sys.argv = [stage, method, seed]
    module.main()
"""
#: Steps of the reduced ResNet-18 with all that the published experiments use: batch normalisation, dropout, images in colour.
#: Writes the bytes of its weights, and the accuracies and losses.
CONVOLUTIONS = """
import sys
from stages.process import begin
begin("__main__")
from pathlib import Path
import numpy as np, torch
from pipeline.streams.reader import Tasks
from pipeline.streams.writer import write_tasks
from pipeline.support.compute import portable, prepare
from pipeline.config import DataPlan, RunPlan
from pipeline.config.reading import read_sections
from pipeline.training.loop import train

device = prepare(read_sections().compute)
assert portable(device)
draw = np.random.default_rng(0)
raw = {
    split: (draw.integers(0, 256, (n, 32, 32, 3), np.uint8), np.arange(n) % 4)
    for split, n in (("train", 40), ("test", 20))
}
folder = Path("made-up")
folder.mkdir()
stream = {"name": "split", "tasks": 2}
write_tasks(folder, DataPlan.model_validate({"datasets": ["cifar100"], "stream": stream, "evaluation": "test"}), [raw])
sgd = {"name": "sgd", "lr": 0.05, "momentum": 0.8}
for name, optimizer, model in (
    ("sgd", sgd, {}), ("rmsprop", {"name": "rmsprop", "lr": 0.001}, {}),
    ("tag", {"name": "tag", "lr": 0.001, "base": "rmsprop", "b": 5.0}, {}),
    ("standard", sgd, {"layout": "standard", "pixels": "mean-image"}),
):
    plan = RunPlan.model_validate({
        "method": name, "optimizer": optimizer, "strategy": {"name": "naive"}, "regime": {"lr_decay": 1.0, "dropout": 0.1},
        "training": {"batch_size": 10, "epochs": 1}, "model": {"name": "resnet18-reduced", "outputs": "task", **model},
    })
    with open(f"made-up/{name}", "wb") as file:
        record = train(plan, Tasks.open(folder), 1, device, after_task=lambda task, model: [
            file.write(value.numpy().tobytes()) for value in model.state_dict().values()] and None)
        file.write(repr(vars(record)).encode())
"""
#: A few steps with each strategy that has arithmetic of its own, on three tasks, and a convolutional network's gradients of
#: single examples. Writes the bytes of the weights, and the accuracies and losses.
STRATEGIES = """
import sys
from stages.process import begin
begin("__main__")
from pathlib import Path
import numpy as np, torch
from pipeline.config import DataPlan, RunPlan
from pipeline.config.reading import read_sections
from pipeline.models import TaskModel
from pipeline.models.resnet import ReducedResNet18
from pipeline.strategies.mas import sensitivity
from pipeline.streams.reader import Tasks
from pipeline.streams.writer import write_tasks
from pipeline.support.compute import portable, prepare
from pipeline.training.loop import train

device = prepare(read_sections().compute)
assert portable(device)
draw = np.random.default_rng(0)
raw = {
    split: (draw.integers(0, 256, (n, 8, 8), np.uint8), np.arange(n) % 6) for split, n in (("train", 60), ("test", 6))
}
folder = Path("made-up")
folder.mkdir()
stream = {"name": "split", "tasks": 3}
write_tasks(folder, DataPlan.model_validate({"datasets": ["digits"], "stream": stream, "evaluation": "test"}), [raw])
for name, strategy in {
    "online-ewc": {"ewc_lambda": 10.0, "fisher_interval": 3, "fisher_decay": 0.9},
    "si": {"si_c": 0.5, "damping": 0.001},
    "mas": {"mas_lambda": 0.5},
    "gem": {"memory_per_class": 3, "margin": 0.5},
    "agem": {"memory_per_class": 3, "memory_batch": 9},
    "er": {"memory_per_class": 3, "memory": "ring", "one_pass": True},
    "derpp": {"memory_per_class": 3, "derpp_alpha": 0.5, "derpp_beta": 0.5},
    "lwf": {"lwf_lambda": 1.0, "temperature": 2.0},
}.items():
    plan = RunPlan.model_validate({
        "method": name, "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.8}, "strategy": {"name": name, **strategy},
        "regime": {"lr_decay": 1.0, "dropout": 0.1}, "training": {"batch_size": 5, "epochs": 1},
        "model": {"name": "mlp", "hidden": [20], "outputs": "task"},
    })
    with open(f"made-up/{name}", "wb") as file:
        record = train(plan, Tasks.open(folder), 1, device, after_task=lambda task, model: [
            file.write(value.numpy().tobytes()) for value in model.state_dict().values()] and None)
        file.write(repr(vars(record)).encode())
torch.manual_seed(0)
model = TaskModel(ReducedResNet18(4), [[0, 1], [2, 3]], "task")
images = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
(folder / "examples").write_bytes(b"".join(part.numpy().tobytes() for part in sensitivity(model, images, 1, [2, 3])))
"""


def small(clone: Clone, methods: Sequence[str], *edits: tuple[str, str, str]) -> None:
    """The clone's two tasks, and spectra of few images."""
    clone.edit("params.yaml", "  - naive\n  - stable-ewc\n", "".join(f"  - {name}\n" for name in methods))
    clone.edit("params.yaml", "stable: stable-ewc", f"stable: {methods[0]}")
    clone.edit("params.yaml", "  examples: null", "  examples: 60")
    clone.edit("params.yaml", "  k: 3 ", "  k: 1 ")
    for edit in edits:
        clone.edit(*edit)
    clone.stage("plan")


def run_on(processor: str | None, clone: Clone, code: str, *arguments: str) -> dict[str, bytes]:
    """Run code in a copy of the clone, on this processor or an emulated one; the bytes of all that it made."""
    folder = clone.folder.with_name(f"{clone.folder.name}-{processor or 'here'}")
    shutil.copytree(clone.folder, folder, symlinks=True)
    for made in ("models", "metrics", "eigenvectors", "scratch"):
        shutil.rmtree(folder / made, ignore_errors=True)
    emulator = [str(QEMU), "-cpu", processor] if processor else []
    # The interpreter itself, not the environment's link to it, which would look for its libraries beside the emulator.
    python = str(Path(sys.executable).resolve())
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(["", sysconfig.get_path("purelib")])}
    command = [*emulator, python, "-c", code, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "note:" not in done.stderr
    files = [path for made in ("models", "metrics", "eigenvectors", "made-up") for path in (folder / made).rglob("*")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if path.is_file()}


#: Smaller products and fewer steps: the emulator takes fifty times as long for them. `-m slow` has them as they are.
SHORT = (
    ("benchmarks.yaml", "    batch_size: 20 ", "    batch_size: 120 "),
    ("benchmarks.yaml", "      - 100\n      - 100\n", "      - 32\n      - 32\n"),
    ("params.yaml", "  examples: 60", "  examples: 24"),
)


def other_makers() -> list[str]:
    """The processors that another maker than this machine's has made."""
    cpuinfo = Path("/proc/cpuinfo")
    here = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    return [processor for maker, processor in PROCESSORS.items() if maker not in here]


@pytest.fixture(scope="module", params=other_makers())
def both(request: pytest.FixtureRequest, base: Clone, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """What a process makes that runs stages and then some steps with every strategy, here and on another's processor."""
    clone = copy_of(base.folder, tmp_path_factory.mktemp("both") / "clone")
    small(clone, ["naive", "tag"], *SHORT)
    work = ["train:naive:1", "train:tag:1", "eigenspectrum:tag:1"]
    here, there = (run_on(processor, clone, DRIVER + STRATEGIES, *work) for processor in (None, str(request.param)))
    return here, there


def test_of_training_and_spectra_every_byte_is_the_same(both: Both) -> None:
    here, there = ({name: data for name, data in made.items() if not name.startswith("made-up/")} for made in both)
    assert len([name for name in here if name.endswith(".safetensors")]) == 4
    assert "metrics/runs/tag/1.eigenspectrum.json" in here
    assert there == here


def test_of_steps_with_every_strategy_every_byte_is_the_same(both: Both) -> None:
    here, there = ({name: data for name, data in made.items() if name.startswith("made-up/")} for made in both)
    names = ("online-ewc", "si", "mas", "gem", "agem", "er", "derpp", "lwf")
    assert {f"made-up/{name}" for name in (*names, "examples")} <= set(here)
    assert len({here[f"made-up/{name}"] for name in names}) == len(names)
    assert there == here


@pytest.fixture(params=PROCESSORS.values())
def processor(request: pytest.FixtureRequest) -> str:
    """Either maker's."""
    return str(request.param)


#: Every update rule, every strategy with its options, and every regime.
METHODS = (
    "naive", "stable", "rmsprop", "adagrad", "adam", "tag", "tag-adagrad", "tag-adam", "ewc", "rmsprop-ewc", "agem", "er",
    "tag-er", "er-ring", "derpp", "gem", "online-ewc", "si", "mas", "lwf", "multitask", "multitask-passes",
)  # fmt: skip
SPECTRA = (
    ("power", "density_probes: 0 ", "density_probes: 2 "),
    ("lanczos", "solver: power ", "solver: lanczos "),
    ("polish", "polish: false ", "polish: true "),
)


@pytest.mark.slow
def test_of_every_update_rule_and_strategy_every_byte_is_the_same(clone: Clone, processor: str) -> None:
    small(clone, METHODS, ("benchmarks.yaml", "      dropout: 0.0", "      dropout: 0.2"))
    options = "  fisher: exact\n"
    text = (clone.folder / "methods.yaml").read_text(encoding="utf-8")
    (clone.folder / "methods.yaml").write_text(
        re.sub(r"(?m)^rmsprop-ewc:\n", "rmsprop-ewc:\n" + options, text), encoding="utf-8"
    )
    clone.stage("plan")
    work = [f"train:{name}:1" for name in METHODS]
    here = run_on(None, clone, DRIVER, *work)
    assert len([name for name in here if name.endswith(".safetensors")]) == 2 * len(METHODS)
    assert run_on(processor, clone, DRIVER, *work) == here


@pytest.mark.slow
@pytest.mark.parametrize(("name", "old", "new"), SPECTRA)
def test_of_every_kind_of_spectrum_every_byte_is_the_same(
    clone: Clone, processor: str, name: str, old: str, new: str
) -> None:
    small(clone, ["naive"], ("params.yaml", old, new), ("params.yaml", "save_vectors: false", "save_vectors: true"))
    work = ["train:naive:1", "eigenspectrum:naive:1"]
    here = run_on(None, clone, DRIVER, *work)
    assert any(path.startswith("eigenvectors/") and path.endswith(".safetensors") for path in here)
    assert run_on(processor, clone, DRIVER, *work) == here


@pytest.mark.slow
def test_of_convolutions_with_batch_normalisation_and_dropout_every_byte_is_the_same(
    clone: Clone, processor: str
) -> None:
    here = run_on(None, clone, CONVOLUTIONS)
    assert {"made-up/sgd", "made-up/rmsprop", "made-up/tag", "made-up/standard"} <= set(here)
    assert run_on(processor, clone, CONVOLUTIONS) == here


@pytest.mark.slow
def test_tables_and_figures_are_the_same_bytes(clone: Clone, processor: str) -> None:
    code = "from stages.process import begin; begin('__main__'); from stages import split, summarize, figures; "
    code += "split.main(); summarize.main(); figures.main()"

    def made(on: str | None) -> dict[str, bytes]:
        shutil.copytree(clone.folder, clone.folder.with_name(f"tables-{on}"), symlinks=True)
        folder = clone.folder.with_name(f"tables-{on}")
        emulator = [str(QEMU), "-cpu", on] if on else []
        environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(["", sysconfig.get_path("purelib")])}
        command = [*emulator, str(Path(sys.executable).resolve()), "-c", code]
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        files = [path for name in ("data/tasks", "plots", "metrics", "figures") for path in (folder / name).rglob("*")]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if path.is_file()}

    assert made(processor) == made(None)
