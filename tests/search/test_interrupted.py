"""Searches that are killed or interrupted: a kill changes nothing, and nothing is left running."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.config import read_configuration
from pipeline.search import tuning
from pipeline.search.search import Search
from pipeline.search.space import read_space
from pipeline.search.trials import MEASURES, Outcome, place_of
from pipeline.support.alone import alone
from pipeline.support.files import write_json
from tests.clones import ENVIRONMENT, one_line
from tests.paths import ROOT, edit
from tests.search import opened_of
from tests.waiting import LIMIT, wait_until


def trials_of(folder: Path) -> list[Any]:
    """All that must not depend on kills."""
    with opened_of(folder) as study:
        return [
            (trial.number, trial.state, trial.params, trial.values, trial.intermediate_values, trial.user_attrs)
            for trial in study.get_trials()
        ]


def killed_and_not(folder: Path, kills: int, trials: int, seeds: str, moments: random.Random) -> None:
    """Carry out a search twice, once killed several times, and compare."""
    command = [
        sys.executable, "-m", "pipeline", "tune", "naive", "lr=0.001..1:log", "momentum=0,0.5,0.9", "--sampler", "tpe",
        "--trials", str(trials), "--seeds", seeds, "--batch", "2", "--prune", "-j", "2",
    ]  # fmt: skip
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT), "TAG_SAVE_SECONDS": "0.05"}
    result = folder / "results/tuning/rotated-digits/naive.csv"
    place = folder / "scratch/tune/rotated-digits/naive"
    hits = 0
    for kill in range(kills):
        with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL) as running:

            def reached(kill: int = kill, running: subprocess.Popen[bytes] = running) -> bool:
                """A first run that trains; later, any moment: another trial is about to be added."""
                if running.poll() is not None:
                    return True
                if kill == 0:
                    return any((place / "runs").glob("*/state.pt"))
                return bool(psutil.Process(running.pid).children()) and any((place / "runs").glob("*.lock"))

            wait_until(reached, every=0.005)
            time.sleep(moments.uniform(0.0, 0.8 if kill else 0.2))
            children = psutil.Process(running.pid).children(recursive=True) if running.poll() is None else []
            os.kill(running.pid, signal.SIGKILL) if running.poll() is None else None
        hits += running.returncode == -signal.SIGKILL
        _, alive = psutil.wait_procs(children, timeout=LIMIT)  # nothing trains on
        assert not alive
    assert hits > 0
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record, found = result.read_bytes(), trials_of(folder)
    assert sorted(path.name for path in place.iterdir()) == ["lock", "study.db"]
    shutil.rmtree(folder / "scratch")
    result.unlink()
    again = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert again.stdout == done.stdout  # the same best
    assert result.read_bytes() == record
    assert trials_of(folder) == found
    assert len(found) == trials


def test_a_search_that_is_killed_ends_as_one_that_is_not(folder: Path) -> None:
    killed_and_not(folder, 1, 4, "7", random.Random(3))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_five_kills_at_varying_moments(folder: Path, seed: int) -> None:
    killed_and_not(folder, 5, 10, "7,8", random.Random(seed))


def test_what_another_search_left_behind_does_not_count(folder: Path) -> None:
    """Of one whose study.db was deleted, and of one that was killed while it removed its data."""
    place = folder / "scratch/tune/rotated-digits/naive"
    (place / "tasks").mkdir(parents=True)
    (place / "runs").mkdir()
    planted = Outcome(7, "finished", [1.0], dict.fromkeys(MEASURES, 0.9999))
    write_json(place / "runs" / f"{place_of({'lr': 0.1}, 7)}.json", {"key": "of another", **asdict(planted)})
    one = Search(read_configuration(folder), "naive", read_space(["lr=0.1"]), (7,), record="naive")
    ((_, (trained,)),) = tuning.carry_out_search(one, 1)
    assert trained.measures is not None and trained.measures["average_accuracy"] < 0.99


def test_two_searches_of_one_record_do_not_meet(folder: Path) -> None:
    command = [sys.executable, "-m", "pipeline", "tune", "naive", "lr=0.1,0.2", "--seeds", "7"]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    with alone(folder / "scratch/tune/rotated-digits/naive/lock", "busy"):
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "tune: another search is at work in scratch/tune/rotated-digits/naive" in one_line(done.stderr)


@pytest.mark.parametrize("who", ["the search by ctrl-c", "a training from outside"])
def test_what_is_interrupted_ends_in_a_line_and_leaves_nothing_running(folder: Path, who: str) -> None:
    edit(folder / "benchmarks.yaml", "    epochs: 1", "    epochs: 1000")
    command = [sys.executable, "-m", "pipeline", "tune", "naive", "lr=0.1,0.2", "--seeds", "7", "-j", "2"]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # not ignored, as where tests run in the background
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as running:
        signal.signal(signal.SIGINT, before)
        runs = folder / "scratch/tune/rotated-digits/naive/runs"
        wait_until(lambda: running.poll() is not None or len(list(runs.glob("*.lock"))) == 2)
        children = psutil.Process(running.pid).children(recursive=True)
        if who == "the search by ctrl-c":
            running.send_signal(signal.SIGINT)
        else:
            trains = max(children, key=lambda child: child.memory_info().rss)  # the smallest tracks resources
            trains.kill()
        _, told = running.communicate(timeout=LIMIT)
    if who == "the search by ctrl-c":
        assert running.returncode == 130
        assert one_line(told).startswith("tune: interrupted")
    else:
        assert running.returncode == 2
        assert one_line(told).startswith("tune: a training was ended from outside, perhaps for lack of memory")
    _, alive = psutil.wait_procs(children, timeout=LIMIT)
    assert not alive
