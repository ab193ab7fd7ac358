"""Stages in forks of a process that has imported PyTorch: the same bytes as by `python -m`, and the same end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from pipeline.parallel.forks import Forks
from stages import forks as forks_of_stages
from stages.process import ENDED
from tests.clones import ENVIRONMENT, Clone, everything, fresh_clone, processes
from tests.waiting import wait_until

TRAIN = "python -m stages.train naive 1"
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="stages are forked on Linux alone")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    clone = fresh_clone(tmp_path_factory.mktemp("forks"))
    for stage in ("plan", "download", "split"):
        clone.stage(stage)
    return clone


@pytest.fixture
def forks(clone: Clone) -> Iterator[Forks]:
    forks = Forks(clone.folder)
    yield forks
    forks.end()


def environment(**more: str) -> Mapping[str, str]:
    return {**ENVIRONMENT, "OMP_NUM_THREADS": "1", **more}


def server(clone: Clone) -> int:
    (pid,) = processes(clone, "stages.forks")
    return pid


def forked_stages(clone: Clone) -> set[int]:
    """The stages that are forks of the process that imports for them.

    Besides, what a stage starts has its command line until it runs another program.
    """
    children: set[int] = set()
    for parent in processes(clone, "stages.forks"):
        with contextlib.suppress(psutil.Error):
            children |= {child.pid for child in psutil.Process(parent).children()}
    return children & set(processes(clone, "stages.train"))


def test_a_fork_gives_the_bytes_of_a_process_of_its_own(clone: Clone, forks: Forks) -> None:
    assert forks.run(TRAIN, str(clone.folder), environment()) == 0
    first = server(clone)
    forked = everything(clone, "naive")
    clone.stage("train", "naive", "1")
    assert everything(clone, "naive") == forked
    assert forks.run("python -m stages.eigenspectrum naive 1", str(clone.folder), environment()) == 0
    assert server(clone) == first
    spectrum = clone.folder / "metrics/runs/naive/1.eigenspectrum.json"
    before = spectrum.read_bytes()
    clone.stage("eigenspectrum", "naive", "1")
    assert spectrum.read_bytes() == before


@pytest.mark.parametrize("waits", [True, False], ids=["pidfd", "no pidfd"])
def test_a_stage_is_waited_for_by_every_python(waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some Pythons were built where the system had no pidfd_open."""
    if not waits:
        monkeypatch.delattr(os, "pidfd_open")
    here, there = socket.socketpair()
    with here, there:
        for status in (0, 3):
            with subprocess.Popen(
                [sys.executable, "-c", f"import time; time.sleep(0.1); raise SystemExit({status})"]
            ) as stage:
                assert forks_of_stages._wait(stage.pid, here) == status
                stage.returncode = status  # it was waited for
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stage:
            monkeypatch.setattr(os, "_exit", end)
            there.close()
            with pytest.raises(KeyboardInterrupt, match=str(ENDED)):
                forks_of_stages._wait(stage.pid, here)
            stage.kill()


def end(status: int) -> None:
    raise KeyboardInterrupt(status)


def test_a_stage_that_fails_tells_its_status_and_its_words(
    clone: Clone, forks: Forks, capfd: pytest.CaptureFixture[str]
) -> None:
    assert forks.run("python -m stages.train nobody 1", str(clone.folder), environment()) == 2
    assert "nobody" in capfd.readouterr().err
    assert forks.run("python -m stages.train naive", str(clone.folder), environment()) == 2
    assert "usage: python -m stages.train METHOD SEED" in capfd.readouterr().err


def test_other_code_settings_or_variables_are_not_run_in_an_old_process(clone: Clone, forks: Forks) -> None:
    def run(**more: str) -> int:
        assert forks.run("python -m stages.train nobody 1", str(clone.folder), environment(**more)) == 2
        return server(clone)

    seen = [run()]
    assert run() == seen[0]
    assert run(DVC_STAGE="train@nobody-1", CUDA_VISIBLE_DEVICES="") == seen[0]
    code = clone.folder / "pipeline/training/loop.py"
    code.write_text(code.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    seen.append(run())
    clone.edit("params.yaml", "portable: true", "portable: false")
    try:
        # NumPy's threads may forbid forks then: either another process answers, or none
        answer = forks.run("python -m stages.train nobody 1", str(clone.folder), environment())
        assert answer in (2, None)
        assert seen[-1] not in processes(clone, "stages.forks")
    finally:
        clone.edit("params.yaml", "portable: false", "portable: true")
    seen.append(run())
    seen.append(run(OMP_NUM_THREADS="2"))
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(
    "command",
    [
        "python -m stages.plan",
        "python -m stages.train naive 1 && true",
        "python -m stages.train $METHOD 1",
        "python3 -m stages.train naive 1",
        "python -m stages.train  naive 1",
        "true",
    ],
)
def test_other_commands_are_left_to_a_shell(clone: Clone, forks: Forks, command: str) -> None:
    assert forks.run(command, str(clone.folder), environment()) is None
    assert not processes(clone, "stages.forks")


def test_another_python_or_folder_is_left_to_a_shell(clone: Clone, forks: Forks, tmp_path: Path) -> None:
    assert forks.run(TRAIN, str(tmp_path), environment()) is None
    assert forks.run(TRAIN, str(clone.folder), environment(PATH=str(tmp_path))) is None


CLIENT = """
import os, sys
from pathlib import Path
from pipeline.parallel.forks import Forks
sys.exit(Forks(Path.cwd()).run("python -m stages." + sys.argv[1], os.getcwd(), os.environ))
"""


@pytest.mark.parametrize("how", ["the client is killed", "the stage is interrupted"])
def test_a_stage_ends_with_the_process_that_asked_for_it(clone: Clone, how: str) -> None:
    clone.edit("benchmarks.yaml", "    epochs: 1\n", "    epochs: 1000\n")  # would go on for minutes
    try:
        clone.stage("plan")
        with subprocess.Popen(
            [sys.executable, "-c", CLIENT, "train naive 1"],
            cwd=clone.folder,
            env={**environment(DVC_STAGE="train@naive-1"), "PYTHONPATH": str(clone.folder)},
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as client:
            try:
                wait_until(lambda: bool(forked_stages(clone)))
            finally:
                if how == "the client is killed":
                    client.kill()
                else:
                    os.killpg(client.pid, signal.SIGINT)
            wait_until(lambda: not processes(clone, "stages.train") and not processes(clone, "stages.forks"))
    finally:
        clone.edit("benchmarks.yaml", "    epochs: 1000\n", "    epochs: 1\n")
        clone.stage("plan")
