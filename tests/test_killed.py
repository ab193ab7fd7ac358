"""Runs that are killed: the same bytes when started again, and nobody who writes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.clones import ENVIRONMENT, Clone, everything


@pytest.mark.parametrize("who", ["command", "group"])
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(clone: Clone, who: str) -> None:
    wanted = everything(clone, "stable-ewc")
    moments = random.Random(7)
    environment = {**ENVIRONMENT, "TAG_SAVE_SECONDS": "0.05"}
    for stage in ("train", "eigenspectrum"):
        command = [sys.executable, "-m", f"stages.{stage}", "stable-ewc", "1"]
        for _ in range(4):
            with subprocess.Popen(
                command, cwd=clone.folder, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
            ) as running:
                try:
                    running.wait(moments.uniform(2.0, 4.5))
                except subprocess.TimeoutExpired:
                    os.killpg(running.pid, signal.SIGKILL) if who == "group" else running.kill()
        clone.run(*command)
        assert not list((clone.folder / "scratch" / stage / "stable-ewc-1").iterdir())
    assert everything(clone, "stable-ewc") == wanted


def test_a_command_whose_dvc_was_killed_does_not_write_on(clone: Clone) -> None:
    clone.edit("benchmarks.yaml", "    epochs: 1", "    epochs: 200")
    with subprocess.Popen(
        ["dvc", "repro", "train@naive-1"],
        cwd=clone.folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as dvc:
        deadline = time.monotonic() + 60
        while not (commands := working(clone)) and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(3)  # past the imports, into training
        dvc.kill()
    assert commands
    deadline = time.monotonic() + 10
    while working(clone) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not working(clone)


def working(clone: Clone) -> list[int]:
    """Processes that train in the clone."""
    found = []
    for process in psutil.process_iter():
        try:
            if "stages.train" in process.cmdline() and process.cwd() == str(clone.folder):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found
