"""A stage's process ends with the DVC that started it, however early that dies and whoever it is."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.clones import ENVIRONMENT, Clone, one_line, processes
from tests.paths import ROOT
from tests.waiting import wait_until

#: Stands for a stage: begins like one, tells that it lives, and goes on until it is ended.
STAGE = """
import pathlib, sys, time
{before}
from stages.process import end_with_dvc
end_with_dvc()
pathlib.Path("begun").touch()
time.sleep(600)
"""
#: Stands for DVC: a program of this name that runs the stage through a shell, as DVC does, and waits.
DVC = """#!{python}
import os, pathlib, subprocess, sys
env = {{**os.environ, "DVC_STAGE": "train@naive-1"}}
with subprocess.Popen([{python!r}, "stage.py"], env=env) as child:
    pathlib.Path("started").write_text(str(child.pid))
"""


@contextlib.contextmanager
def started(folder: Path, before: str = "", name: str = "dvc") -> Iterator[tuple[psutil.Process, psutil.Process]]:
    """DVC and its stage."""
    (folder / "stage.py").write_text(STAGE.format(before=before), encoding="utf-8")
    (folder / name).write_text(DVC.format(python=sys.executable), encoding="utf-8")
    (folder / name).chmod(0o755)
    with subprocess.Popen([folder / name], cwd=folder, env=environment()) as dvc:
        try:
            wait_until(lambda: (folder / "started").exists() and (folder / "started").read_text(encoding="utf-8") != "")
            stage = psutil.Process(int((folder / "started").read_text(encoding="utf-8")))
            yield psutil.Process(dvc.pid), stage
        finally:
            dvc.kill()
            with contextlib.suppress(psutil.Error, UnboundLocalError):
                stage.kill()


def environment() -> dict[str, str]:
    return {**{key: value for key, value in ENVIRONMENT.items() if key != "DVC_STAGE"}, "PYTHONPATH": str(ROOT)}


def ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("name", ["dvc", "a_program_of_ones_own.py"])
def test_a_stage_ends_with_the_dvc_that_started_it(tmp_path: Path, name: str) -> None:
    with started(tmp_path, name=name) as (dvc, stage):
        wait_until(lambda: (tmp_path / "begun").exists())
        assert not ended(stage)
        dvc.kill()
        wait_until(lambda: ended(stage))


def test_a_stage_whose_dvc_is_gone_before_its_first_line_does_nothing(tmp_path: Path) -> None:
    """The stage waits before its first line until DVC is gone, and its new parent is another process."""
    before = "import os\nwhile not pathlib.Path('gone').exists(): time.sleep(0.05)"
    with started(tmp_path, before) as (dvc, stage):
        dvc.kill()
        dvc.wait()
        wait_until(lambda: stage.ppid() != dvc.pid)
        (tmp_path / "gone").touch()
        wait_until(lambda: ended(stage))
        assert not (tmp_path / "begun").exists()


def test_the_code_of_another_folder_is_not_run(tmp_path: Path) -> None:
    """With PYTHONSAFEPATH, or the environment of another clone, DVC would record code that nobody ran."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/process.py").touch()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "stages.plan", "--check"],
        cwd=tmp_path, env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"plan: this would run the code of {ROOT}, not of this folder" in one_line(done.stderr)


def test_a_stage_that_a_person_started_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "stage.py").write_text(STAGE.format(before="").replace("time.sleep(600)", ""), encoding="utf-8")
    subprocess.run([sys.executable, "stage.py"], cwd=tmp_path, env=environment(), check=True)
    assert (tmp_path / "begun").exists()


def kill_dvc(clone: Clone, command: list[str], victim: str, delay: float) -> tuple[bool, bool]:
    """Run a training by `command`, and kill the process that runs DVC `delay` seconds after the stage's process appears.

    Gives whether the stage ran at that moment, and whether it has written its result.
    """
    result = clone.folder / "metrics/runs/naive/1.json"
    with subprocess.Popen(
        command, cwd=clone.folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as engine:  # fmt: skip
        wait_until(lambda: bool(processes(clone, "stages.train")) or engine.poll() is not None)
        time.sleep(delay)
        hit = bool(processes(clone, "stages.train"))
        for pid in [engine.pid] if victim == "dvc" else processes(clone, "pipeline.parallel.dvc_process"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        wait_until(lambda: not processes(clone, "stages.train"))
        print(f"{victim} killed after {delay:.2f} s: the stage ended {time.monotonic() - killed:.2f} s later")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(engine.pid, signal.SIGKILL)
    return hit, result.exists()


@pytest.mark.parametrize("victim", ["dvc", "worker"])
@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_no_stage_trains_on_when_its_dvc_is_killed(clone: Clone, victim: str, kills: int) -> None:
    """At seeded moments of the five seconds after the stage's process appears, its imports among them."""
    clone.edit("benchmarks.yaml", "    epochs: 1", "    epochs: 1000")  # would go on for minutes
    command = {
        "dvc": ["dvc", "repro", "train@naive-1"],
        "worker": [sys.executable, "-m", "pipeline", "repro", "train@naive-1"],
    }
    moments = random.Random(5)
    for _ in range(kills):
        hit, finished = kill_dvc(clone, command[victim], victim, moments.uniform(0, 5))
        assert hit
        assert not finished


def test_a_python_without_the_packages_gets_a_line() -> None:
    """As where somebody calls .venv/bin/dvc without activating the environment."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "stages.plan"], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert one_line(done.stderr).endswith("lacks the project's packages; run 'source .venv/bin/activate' first\n")
