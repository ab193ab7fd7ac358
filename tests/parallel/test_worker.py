"""A worker's stage: run again while what a killed worker left behind is still at work on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.parallel import clones, dvc, worker
from pipeline.parallel.dvc_process import DvcProcess, DvcProcesses, StageFailedError
from pipeline.support.errors import UserError
from pipeline.support.git import git
from pipeline.support.scratch import Scratch
from tests.clones import Clone
from tests.parallel.test_side_by_side import trivial
from tests.waiting import LIMIT

#: The pipe of a process that has ended is closed when it is collected.
PIPES = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """How each attempt to run a stage ended."""
    ended: list[tuple[int, str]] = []
    do = DvcProcess.do

    def noted(self: DvcProcess, *given: Any) -> tuple[int, str]:
        ended.append(do(self, *given))
        return ended[-1]

    monkeypatch.setattr(DvcProcess, "do", noted)
    return ended


@PIPES
def test_a_stage_that_another_process_is_at_work_on_is_waited_for(
    tmp_path: Path, attempts: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    trivial(tmp_path, {"a": ("true", [])})
    processes = DvcProcesses()
    monkeypatch.setattr(worker, "PROCESSES", processes)
    with subprocess.Popen(["sleep", "6000"]) as other:
        held = {"write": {str(tmp_path / "a.txt"): {"pid": other.pid, "cmd": "dvc repro"}}, "read": {}}
        (tmp_path / ".dvc/tmp/rwlock").write_text(json.dumps(held), encoding="utf-8")
        try:
            monkeypatch.setattr(worker, "PATIENCE", 0.0)
            with pytest.raises(StageFailedError, match=f"PID {other.pid}"):
                worker.perform(worker.Request("a", tmp_path), 1)
            monkeypatch.setattr(worker, "PATIENCE", 600.0)
            monkeypatch.setattr(worker, "time", Ending(other))
            assert worker.perform(worker.Request("a", tmp_path), 1).did == "ran"
        finally:
            other.kill()
            processes.end()
    assert [bool(status) for status, _ in attempts] == [True, True, False]


class Ending:
    """The module `time`, where a process ends while somebody sleeps."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def __getattr__(self, name: str) -> Any:
        return getattr(__import__("time"), name)

    def sleep(self, seconds: float) -> None:
        self.process.kill()
        self.process.wait()


@PIPES
def test_who_interrupts_the_end_too_waits_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a second Ctrl-C does. The process is halted, so that nothing but SIGKILL ends it."""
    processes = DvcProcesses()
    with processes.one(tmp_path) as process:
        os.kill(process._process.pid, signal.SIGSTOP)
        with monkeypatch.context() as within, pytest.raises(KeyboardInterrupt):
            within.setattr(DvcProcess, "end", interrupted)
            processes.end()
        assert process._process.wait(LIMIT) == -signal.SIGKILL


@PIPES
def test_the_processes_of_a_client_that_is_gone_are_given_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that have answered and are not ended yet."""
    processes = DvcProcesses()
    with processes.one(tmp_path, "mine") as mine, processes.one(tmp_path, "yours") as yours:
        with monkeypatch.context() as within:
            within.setattr(DvcProcess, "end", lambda self, patience: None)
            within.setattr(DvcProcess, "interrupt", lambda self: None)
            processes.end_those_of("mine")
        assert mine.alive()
    with processes.one(tmp_path, "others") as other:
        assert other is yours
    with pytest.raises(RuntimeError, match="interrupted"), processes.one(tmp_path, "mine"):
        pass
    processes.end_those_of("")  # as a client of an earlier version asks, which names none
    with processes.one(tmp_path):
        pass
    mine.end()
    processes.end()


def interrupted(self: DvcProcess, patience: float) -> None:
    raise KeyboardInterrupt


def test_a_clone_of_a_project_and_a_remote_whatever_their_folders_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "a #b, 'c'"
    here.mkdir()
    trivial(here, {"a": ("true", [])})
    shelf = here / "the shelf, or #2"
    commit = git("rev-parse", "HEAD", folder=here)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(clones.VARIABLE, "~/clones")
    monkeypatch.setenv("GIT_DIR", str(here / ".git"))  # as in a hook
    with clones.own_clone(clones.Source(str(here), commit, ("shelf", str(shelf))), "a") as clone:
        told = [Clone(clone).run("dvc", "config", key).rstrip("\n") for key in ("core.remote", "remote.shelf.url")]
        assert git("rev-parse", "HEAD", folder=clone) == commit
    assert told == ["shelf", str(shelf)]
    assert clone.is_relative_to(tmp_path / "clones")


def test_a_clone_follows_branches_that_are_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    trivial(here, {"a": ("true", [])})
    monkeypatch.setenv(clones.VARIABLE, str(tmp_path / "clones"))
    commit = git("rev-parse", "HEAD", folder=here)
    source = clones.Source(str(here), commit, ("shelf", str(tmp_path / "shelf")))
    for old, new in ((None, "feature"), ("feature", "feature/x")):
        if old:
            git("branch", "--delete", "--force", old, folder=here)
        git("branch", new, folder=here)
        with clones.own_clone(source, "a") as clone:
            assert git("rev-parse", f"refs/origin/heads/{new}", folder=clone) == commit


def test_a_worker_that_offers_a_gpu_and_has_none_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(worker, "_counted", False)
    for _ in range(2):
        with (
            pytest.raises(StageFailedError, match="offers a GPU, and PyTorch finds none"),
            worker._one_gpu("train@a-1"),
        ):
            pass
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with worker._one_gpu("train@a-1") as name:
        assert name == "7"
    assert worker._FREE_GPUS.get_nowait() == "7"  # it was given back, and is not left to other tests


def test_a_run_that_another_process_works_on_is_told_from_other_failures(tmp_path: Path) -> None:
    with Scratch(tmp_path, "key", "naive-1"), pytest.raises(UserError) as told, Scratch(tmp_path, "key", "naive-1"):
        pass
    assert dvc.in_use(str(told.value))
    assert not dvc.in_use("train: the loss is nan")
