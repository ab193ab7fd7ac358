"""Clones of the project with a shortened benchmark, for tests that run the pipeline itself."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from tests.forkserver import run_in_fork
from tests.paths import ROOT, edit

BIN = Path(sys.executable).parent
#: A folder that is not there, for the user's DVC configuration and the system's, which may name a cache or a remote.
_ABSENT = str(ROOT / "tests" / "no-configuration")
NO_DVC_CONFIGURATION = {"DVC_GLOBAL_CONFIG_DIR": _ABSENT, "DVC_SYSTEM_CONFIG_DIR": _ABSENT}
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "GIT_", "PYTHONPATH"))},
    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    "GIT_CONFIG_GLOBAL": os.devnull,
    **NO_DVC_CONFIGURATION,
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
}

RUNS = {"naive-1", "stable-ewc-1"}


def stages(*names: str, runs: set[str] | None = None) -> set[str]:
    """Stage names: those given, and train and eigenspectrum of `runs`."""
    return {*names} | {f"{stage}@{run}" for stage in ("train", "eigenspectrum") for run in runs or ()}


class Clone:
    """A checkout with its own DVC cache.

    plain: Whether DVC reads and writes its files there as it does, and not in the faster ways of the project.
    """

    def __init__(self, folder: Path, plain: bool = False) -> None:
        self.folder, self.plain = folder, plain

    def run(self, *command: str, status: int | None = 0) -> str:
        """stdout and stderr together; asserts the exit status. A command of the project or DVC runs in a fork, if it can."""
        ended = run_in_fork(command, self.folder, ENVIRONMENT, self.plain)
        if ended is None:
            done = subprocess.run(
                command, cwd=self.folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            ended = done.returncode, done.stdout
        assert status is None or ended[0] == status, ended[1]
        return ended[1]

    def stage(self, name: str, *arguments: str, status: int | None = 0) -> str:
        return self.run(sys.executable, "-m", f"stages.{name}", *arguments, status=status)

    def repro(self, *arguments: str) -> set[str]:
        """The stages that ran."""
        return set(re.findall(r"^Running stage '([^']+)'", self.run("dvc", "repro", *arguments), re.MULTILINE))

    def edit(self, file: str, old: str, new: str) -> None:
        edit(self.folder / file, old, new)

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)


def fresh_clone(folder: Path) -> Clone:
    """The project's files as they are in the working tree (committed or not, ignored ones left out), in a new repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        # Files alone: an environment that is a link to another one is listed too, as .gitignore names folders.
        if (ROOT / name).is_file() and not name.startswith(("metrics/", "dvc.lock", "docs/", "results/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    clone = Clone(folder)
    clone.edit(
        "params.yaml",
        "  - stable\n  - rmsprop\n  - tag\n  - ewc\n  - agem\n  - er\n  - multitask\n",
        "  - stable-ewc\n",
    )
    clone.edit("params.yaml", "stable: stable ", "stable: stable-ewc ")
    clone.edit("params.yaml", "  - 2\n  - 3\n  - 4\n  - 5\n", "")
    clone.edit(
        "params.yaml",
        "  vector_formats:           # beside each PNG file: svg, pdf, both or none\n  - svg\n",
        "  vector_formats: []\n",
    )
    clone.edit("benchmarks.yaml", "    tasks: 5", "    tasks: 2")
    clone.edit("benchmarks.yaml", "    batch_size: 5 ", "    batch_size: 20 ")
    clone.run("git", "init", "--quiet")
    clone.commit("base")
    return clone


def one_line(text: str) -> str:
    assert text.count("\n") == 1, text
    return text


def everything(clone: Clone, method: str) -> dict[str, bytes]:
    """The bytes of a run's outputs."""
    folders = [clone.folder / "models" / method / "1", clone.folder / "metrics" / "runs" / method]
    return {path.name: path.read_bytes() for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()}


def processes(clone: Clone, word: str) -> list[int]:
    """The processes in the clone's folder that have a word in their command line, as the name of a module."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = " ".join(process.cmdline()).split()  # a fork's command line is one word with blanks
            if word in words and process.cwd() == str(clone.folder):
                found.append(process.pid)
    return found


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder of the whole test run: the process of pytest-xdist that asks first makes it, the others wait for it.

    It belongs to all of them, so nobody may write there, not even by a command that only reads: Git and DVC keep locks and
    caches beside what they look at.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, made = root / name, root / f"{name}.made"
    with FileLock(root / f"{name}.lock"):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of one that failed
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


def copy_of(folder: Path, place: Path) -> Clone:
    """A clone copied, cache included."""
    shutil.copytree(folder, place, symlinks=True)
    return Clone(place)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone whose pipeline has run, to be looked at. Tests that run something take a copy, `clone`."""

    def make(folder: Path) -> None:
        clone = fresh_clone(folder)
        clone.plain = True  # dvc.lock is what DVC itself makes of it
        assert clone.repro() == stages("plan", "download", "split", "summarize", "figures", runs=RUNS)
        clone.commit("run")

    return Clone(made_once(tmp_path_factory, "base", make))


@pytest.fixture
def clone(base: Clone, tmp_path: Path) -> Clone:
    """A copy of the finished base, cache included."""
    return copy_of(base.folder, tmp_path / "clone")
