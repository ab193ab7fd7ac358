"""A worker's stage: run again while what a killed worker left behind is still at work on it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.parallel import dvc, worker
from pipeline.parallel.dvc_process import DvcProcess, DvcProcesses, StageFailedError
from pipeline.support.errors import UserError
from pipeline.support.scratch import Scratch
from tests.parallel.test_side_by_side import trivial


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


# The pipe of a process that has ended is closed when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
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


def test_a_run_that_another_process_works_on_is_told_from_other_failures(tmp_path: Path) -> None:
    with Scratch(tmp_path, "key", "naive-1"), pytest.raises(UserError) as told, Scratch(tmp_path, "key", "naive-1"):
        pass
    assert dvc.in_use(str(told.value))
    assert not dvc.in_use("train: the loss is nan")
