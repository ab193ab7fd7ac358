"""A cluster that fails: nothing is lost, nothing that was finished runs twice, and the end is that of `dvc repro`.

`python -m pytest -m slow tests/parallel/test_faults.py` prints the table of docs/running.md with `-s`.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

import psutil
import pytest

from tests.clones import ENVIRONMENT, Clone
from tests.cluster import Cluster, cluster
from tests.parallel.test_side_by_side import engine, side_by_side, trivial
from tests.waiting import LIMIT, wait_until

COUNT = 12
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENT, "NOTES", "")


class Work:
    """A repository of stages that note when they begin and when they are done, beside the repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.clone = Clone(folder / "repository")
        self.clone.folder.mkdir()
        ENVIRONMENT["NOTES"] = str(folder)  # not in the command, which dvc.lock holds
        note = "echo ${item.n} $WORKER >> $NOTES"
        stages = {
            "train": {
                "matrix": {"n": list(range(COUNT))},
                "cmd": f"{note}/begun && sleep 1 && echo ${{item.n}} > ${{item.n}}.txt && {note}/done",
                "deps": ["given"],  # DVC keeps no runs of stages without any
                "outs": ["${item.n}.txt"],
            },
            "summarize": {
                "cmd": "cat [0-9]*.txt > all.txt",
                "deps": [f"{n}.txt" for n in range(COUNT)],
                "outs": ["all.txt"],
            },
        }
        self.clone.run("git", "init", "--quiet")
        self.clone.run("dvc", "init", "--quiet")
        (self.clone.folder / "dvc.yaml").write_text(json.dumps({"stages": stages}, indent=1), encoding="utf-8")
        (self.clone.folder / "given").write_text("given\n", encoding="utf-8")
        (self.clone.folder / ".gitignore").write_text("/*.txt\n", encoding="utf-8")
        self.clone.commit("stages")

    def noted(self, file: str) -> list[list[str]]:
        """The stages that have begun or are done, each with its worker, in order."""
        path = self.folder / file
        return [line.split() for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    def start(self, dask: Cluster, *more: str) -> subprocess.Popen[str]:
        """Run the stages on a cluster."""
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", "repro", "--scheduler", dask.address, *more],
            cwd=self.clone.folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def nobody_works(self) -> bool:
        """Whether no stage is being run."""
        folders = []
        for process in psutil.process_iter():
            try:
                if process.name() == "sleep":
                    folders.append(process.cwd())
            except psutil.Error:
                continue
        return not any(folder.startswith(str(self.folder.parent)) for folder in folders)

    def finished(self) -> set[str]:
        """The stages that DVC has recorded."""
        lock = self.clone.folder / "dvc.lock"
        text = lock.read_text(encoding="utf-8") if lock.exists() else ""
        return set(re.findall(r"^  train@(\d+):", text, re.MULTILINE))

    def check(self, what: str, told: str, interrupted: int = 0, finished: Collection[str] = ()) -> None:
        """Hold the end against a plain `dvc repro`, and print a row of the table.

        interrupted: how many stages may have been running. finished: those that must not have run again.
        """
        begun, done = (Counter(name for name, *_ in self.noted(file)) for file in ("begun", "done"))
        assert set(done) == {str(n) for n in range(COUNT)}
        assert all(begun[name] == 1 for name in finished)
        again = sum(begun.values()) - COUNT
        assert 0 <= again <= interrupted
        assert self.clone.repro() == set()
        plain = Work(self.folder.with_name(f"{self.folder.name}-plain"))
        plain.clone.run("dvc", "repro", "--quiet")
        for file in ["dvc.lock", "all.txt", *(f"{n}.txt" for n in range(COUNT))]:
            mine, theirs = ((work.clone.folder / file).read_bytes() for work in (self, plain))
            assert mine == theirs
        print(f"| {what} | {told} | 0 | {again} |")


def wait(engine: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    """Return once the condition holds, while stages are handed out."""
    wait_until(lambda: condition() or engine.poll() is not None)
    if not condition():
        raise AssertionError(engine.communicate()[0])


def begun(work: Work, count: int) -> Callable[[], bool]:
    return lambda: len(work.noted("begun")) >= count


def running(work: Work) -> set[str]:
    """The workers that have begun a stage that is not done."""
    done = [name for name, *_ in work.noted("done")]
    return {worker for name, worker in work.noted("begun") if name not in done}


def test_a_worker_killed_in_mid_stage(tmp_path: Path) -> None:
    work = Work(tmp_path / "work")
    with cluster(tmp_path / "dask", 4) as dask:
        engine = work.start(dask)
        wait(engine, lambda: begun(work, 5)() and bool(running(work)))
        dask.kill(f"worker-{min(running(work))}")
        told, _ = engine.communicate(timeout=LIMIT)
    assert engine.returncode == 0, told
    work.check("a worker killed in mid-stage", "another worker takes its stage", interrupted=1)


def test_a_worker_killed_in_mid_stage_while_another_is_idle(tmp_path: Path) -> None:
    repository, begun = tmp_path / "repository", tmp_path / "begun"
    repository.mkdir()
    slow = f"echo $WORKER >> {begun} && sleep 5"
    clone = trivial(repository, {"q1": ("sleep 2", []), "q2": ("sleep 2", []), "slow": (slow, ["q1", "q2"])})
    with cluster(tmp_path / "dask", 2) as dask:
        command = [sys.executable, "-m", "pipeline", "repro", "--scheduler", dask.address]
        with engine(command, repository) as running:
            wait(running, lambda: begun.exists() and bool(begun.read_text(encoding="utf-8").strip()))
            dask.kill(f"worker-{begun.read_text(encoding='utf-8').strip()}")  # the other one has its DVC imported
            _, told = running.communicate(timeout=LIMIT)
    assert running.returncode == 0, told
    assert sorted(begun.read_text(encoding="utf-8").split()) == ["0", "1"]
    assert clone.repro() == set()


def test_a_failure_ends_no_stage_of_another_client(tmp_path: Path) -> None:
    mine, yours, begun = tmp_path / "mine", tmp_path / "yours", tmp_path / "begun"
    mine.mkdir()
    yours.mkdir()
    wait_for_it = f"until [ -e {begun} ]; do sleep 0.1; done"
    failing = trivial(mine, {"bad": (f"{wait_for_it}; false", [])})
    other = trivial(yours, {"slow": (f"echo once >> {begun} && sleep 8", [])})
    with cluster(tmp_path / "dask", 2) as dask:
        command = [sys.executable, "-m", "pipeline", "repro", "--scheduler", dask.address]
        with engine(command, yours) as running:
            assert "failed: bad" in failing.run(*command, status=2)
            _, told = running.communicate(timeout=LIMIT)
    assert running.returncode == 0, told
    assert begun.read_text(encoding="utf-8").split() == ["once"]
    assert other.repro() == set()


def test_a_scheduler_killed_and_started_again(tmp_path: Path) -> None:
    work = Work(tmp_path / "work")
    with cluster(tmp_path / "dask", 4) as dask:
        engine = work.start(dask)
        wait(engine, begun(work, 6))
        dask.kill("scheduler")
        told, _ = engine.communicate(timeout=LIMIT)
        assert engine.returncode == 2, told
        last = told.rstrip().splitlines()[-1]
        assert last.startswith("repro: "), told
        assert dask.address in last
        wait_until(work.nobody_works)
        finished = work.finished()
        assert finished
        for number in range(4):
            dask.kill(f"worker-{number}")
        dask.schedule()
        for number in range(4):
            dask.work(number)
        dask.wait_for(4)
        side_by_side(work.clone, "--scheduler", dask.address)
    work.check(
        "the scheduler killed, then started again",
        "one line, status 2; the next run goes on",
        interrupted=4,
        finished=finished,
    )


def test_a_worker_that_joins_late(tmp_path: Path) -> None:
    work = Work(tmp_path / "work")
    with cluster(tmp_path / "dask", 1) as dask:
        engine = work.start(dask)
        wait(engine, begun(work, 2))
        dask.work(1)
        told, _ = engine.communicate(timeout=LIMIT)
    assert engine.returncode == 0, told
    assert {worker for _, worker in work.noted("begun")} == {"0", "1"}
    work.check("a worker that joins late", "it takes what is left", interrupted=0)


def test_a_remote_that_refuses_a_push(tmp_path: Path) -> None:
    work = Work(tmp_path / "work")
    shelf = tmp_path / "shelf"
    work.clone.run("dvc", "remote", "add", "-d", "shelf", str(shelf))
    work.clone.commit("remote")
    with cluster(tmp_path / "dask", 4, one_machine=True) as dask:
        more = ("--clone-from", str(work.clone.folder))
        engine = work.start(dask, *more)
        wait(engine, lambda: begun(work, 6)() and bool(work.finished()))
        shelf.rename(tmp_path / "away")
        shelf.touch()  # a file, in which nothing can be kept
        told, _ = engine.communicate(timeout=LIMIT)
        assert engine.returncode == 2, told
        assert told.rstrip().splitlines()[-1].startswith("repro: failed: train@"), told
        wait_until(work.nobody_works)
        finished = work.finished()
        assert finished
        shelf.unlink()
        (tmp_path / "away").rename(shelf)
        side_by_side(work.clone, "--scheduler", dask.address, *more)
    work.check(
        "a remote that refuses a push",
        "the stage's last lines, status 2; the next run goes on",
        interrupted=4,
        finished=finished,
    )


def test_the_engine_interrupted(tmp_path: Path) -> None:
    work = Work(tmp_path / "work")
    with cluster(tmp_path / "dask", 4) as dask:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        engine = work.start(dask)
        signal.signal(signal.SIGINT, before)
        wait(engine, begun(work, 6))
        engine.send_signal(signal.SIGINT)
        told, _ = engine.communicate(timeout=LIMIT)
        assert engine.returncode == 130, told
        wait_until(work.nobody_works)
        finished = work.finished()
        assert finished
        side_by_side(work.clone, "--scheduler", dask.address)
    work.check(
        "Ctrl-C where the stages are handed out",
        "one line, status 130; the next run goes on",
        interrupted=4,
        finished=finished,
    )
