"""Small real things to test with: a configuration, a stream of digits, an accuracy matrix."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from pipeline.config import DataPlan, RunPlan
from pipeline.config.data import RotatedStream
from pipeline.config.networks import Mlp
from pipeline.datasets.sources import fetch
from pipeline.streams.reader import Tasks
from pipeline.streams.writer import write_tasks
from tests.clones import NO_DVC_CONFIGURATION, base, clone
from tests.forkserver import end_fork_server, share_fork_server
from tests.paths import ROOT, edit
from tests.skips import pytest_runtest_makereport

__all__ = [
    "ROOT",
    "base",
    "clone",
    "edit",
    "pytest_runtest_makereport",
]  # fixtures, a hook, what tests import from here

os.environ.update(NO_DVC_CONFIGURATION)  # for tests that call DVC within their own process

# As in the stages. Threads that share small products wait for each other, and spin while they wait: on two cores that other
# processes use too, two threads took eight times the processor time of one. And with one thread the order of a sum does not
# depend on how many cores there are.
torch.set_num_threads(1)

# The same examples on every run, and no limit on seconds: what fails here fails everywhere, on busy machines as on idle ones.
settings.register_profile(
    "anywhere", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("anywhere")


#: The files whose tests take longest. pytest-xdist hands out whole files, so that what a file shares is made once; these
#: come first, so that its two processes end at about the same time. The first two need not wait for each other: the clone
#: that many tests share is made for the first of them.
LONGEST = (
    "test_other_processors", "test_made_up", "test_side_by_side", "test_pipeline", "test_reproduce", "test_tuning",
    "test_interrupted",
    "test_clones", "test_forks", "test_process", "test_figures", "test_oracles", "test_scratch", "test_site",
    "test_dependencies", "test_methods", "test_protocol", "test_fuzz", "test_killed", "test_operator", "test_compute",
    "test_mistakes", "test_lockfile", "test_portable", "test_imports",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("numprocesses", None):  # the controller of pytest-xdist, before it starts the others
        share_fork_server()


def pytest_unconfigure() -> None:
    end_fork_server()


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    """A folder with copies of the project's three YAML files."""
    for name in ("params.yaml", "benchmarks.yaml", "methods.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def two_tasks(tmp_path_factory: pytest.TempPathFactory) -> Tasks:
    """Two tasks of rotated digits, 30 degrees apart."""
    return rotated_digits(tmp_path_factory.mktemp("tasks"), 2)


def rotated_digits(folder: Path, tasks: int) -> Tasks:
    """Tasks of rotated digits, 30 degrees apart, on disk."""
    stream = RotatedStream(name="rotated", tasks=tasks, degrees=30.0, interpolation="bilinear")
    write_tasks(folder, DataPlan(datasets=["digits"], stream=stream, evaluation="test"), [fetch("digits")])
    return Tasks.open(folder)


def run_plan(**changes: object) -> RunPlan:
    """A plan of plain SGD with a small network; changes replace whole sections."""
    sections: dict[str, object] = {
        "method": "naive",
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.0},
        "strategy": {"name": "naive"},
        "regime": {"lr_decay": 1.0, "dropout": 0.0},
        "training": {"batch_size": 16, "epochs": 1},
        "model": Mlp(name="mlp", hidden=[16], outputs="task").model_dump(),
    }
    return RunPlan.model_validate(sections | changes)
