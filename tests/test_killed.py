"""Runs that are killed: the same bytes when started again, and nobody who writes on."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest

from pipeline.config.strategies import StrategySettings
from pipeline.config.update_rules import UpdateRuleSettings
from tests.clones import ENVIRONMENT, Clone, everything, fresh_clone, processes
from tests.configuration import project
from tests.waiting import wait_for_versions, wait_until


def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(clone: Clone) -> None:
    wanted = everything(clone, "stable-ewc")
    moments = random.Random(7)
    # A state after every step. The training has some 140 steps, the eigenspectrum two.
    environment = {**ENVIRONMENT, "TAG_SAVE_SECONDS": "0"}
    for stage, most in (("train", 20), ("eigenspectrum", 1)):
        command = [sys.executable, "-m", f"stages.{stage}", "stable-ewc", "1"]
        scratch = clone.folder / "scratch" / stage / "stable-ewc-1"
        state, log = scratch / "state.pt", clone.folder / "logs" / stage / "stable-ewc-1.json"
        hits = 0
        for who in ("command", "group") * 4:
            with subprocess.Popen(
                command, cwd=clone.folder, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
            ) as running:
                wait_for_versions(state, moments.randint(1, most), over=lambda: running.poll() is not None)
                time.sleep(moments.uniform(0.0, 0.02))  # anywhere within a step
                with contextlib.suppress(ProcessLookupError):  # on a fast machine it may have ended in between
                    os.killpg(running.pid, signal.SIGKILL) if who == "group" else running.kill()
            hits += running.returncode == -signal.SIGKILL and state.exists()
            if hits == 2:
                break
        kept = state.exists()  # not where the last run had ended before it was killed
        clone.run(*command)
        assert json.loads(log.read_text(encoding="utf-8"))["resumed"] == kept
        assert hits > 0  # otherwise every run had ended before it was to be killed
        assert not list(scratch.iterdir())
    assert everything(clone, "stable-ewc") == wanted
    live = (clone.folder / "logs/live/stable-ewc-1.tsv").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[0] for line in live] == ["task", "1", "2"]


@pytest.mark.parametrize(("stage", "outputs"), [("train", "models"), ("eigenspectrum", "eigenvectors")])
def test_a_run_that_dvc_could_not_record_is_not_done_again(clone: Clone, stage: str, outputs: str) -> None:
    """DVC may be killed, or find its lock taken, between the end of the command and dvc.lock."""
    again, single = "had finished, and DVC did not record it", ["dvc", "repro", "-s", f"{stage}@stable-ewc-1"]
    wanted = everything(clone, "stable-ewc")
    lock = clone.folder / "dvc.lock"
    before = lock.read_text(encoding="utf-8")
    assert again not in clone.run(*single, "--force")
    assert again not in clone.run(*single, "--force"), "what is recorded and forced is done again"
    head = before.partition(f"  {stage}@stable-ewc-1:\n")[0]
    lock.write_text(head, encoding="utf-8")  # without this stage and those after it
    clone.run("rm", "-rf", f"{outputs}/stable-ewc", ".dvc/cache/runs")
    assert again in clone.run(*single)
    assert everything(clone, "stable-ewc") == wanted


def test_a_state_of_another_plan_or_of_other_weights_is_not_gone_on_from(clone: Clone) -> None:
    """Whoever changes the learning rate after a kill wants a run with that rate from its first step."""
    told = "belongs to a different plan, data or code"
    states = {stage: kept_by_a_kill(clone, stage) for stage in ("eigenspectrum", "train")}
    plan = clone.folder / "runs/stable-ewc.yaml"
    text = plan.read_text(encoding="utf-8")
    plan.write_text(re.sub(r"(?m)^(  lr: ).*$", r"\g<1>0.037", text), encoding="utf-8")
    assert plan.read_text(encoding="utf-8") != text
    for stage in ("train", "eigenspectrum"):
        assert states[stage].exists()
        assert told in clone.stage(stage, "stable-ewc", "1")
        log = clone.folder / "logs" / stage / "stable-ewc-1.json"
        assert json.loads(log.read_text(encoding="utf-8"))["resumed"] is False


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        (
            "train",
            [
                ("pipeline/training/loop.py", '"""The training loop', '"""The  training loop'),
                ("params.yaml", "threads: 1", "threads: 2"),
            ],
        ),
        ("eigenspectrum", [("params.yaml", "  k: 3 ", "  k: 2 ")]),
    ],
)
def test_a_state_of_other_code_settings_or_arithmetic_is_not_gone_on_from(
    clone: Clone, stage: str, changes: list[tuple[str, str, str]]
) -> None:
    state = kept_by_a_kill(clone, stage)
    kept = state.read_bytes()
    for file, old, new in changes:
        state.write_bytes(kept)
        clone.edit(file, old, new)
        assert "belongs to a different plan, data or code" in clone.stage(stage, "stable-ewc", "1")
        clone.edit(file, new, old)


def kept_by_a_kill(clone: Clone, stage: str) -> Path:
    """The state that a stage leaves when it is killed after its first."""
    state = clone.folder / "scratch" / stage / "stable-ewc-1" / "state.pt"
    command = [sys.executable, "-m", f"stages.{stage}", "stable-ewc", "1"]
    for _ in range(20):  # one that is killed too late has ended
        with subprocess.Popen(
            command, cwd=clone.folder, env={**ENVIRONMENT, "TAG_SAVE_SECONDS": "0"}, stderr=subprocess.DEVNULL
        ) as running:
            wait_for_versions(state, 1, over=lambda: running.poll() is not None)
            running.kill()
        if state.exists():
            return state
    raise AssertionError("every run had ended before it was killed")


#: Every strategy and every update rule.
METHODS = (
    "gem", "er-ring", "si", "mas", "online-ewc", "derpp", "lwf",
    "tag-er", "naive", "stable-agem", "multitask", "tag-adam", "ewc", "adagrad", "tag-agem", "rmsprop-er", "adam",
    "multitask-passes", "tag-ewc", "tag-adagrad", "rmsprop",
)  # fmt: skip


def test_none_is_missing_from_those_that_are_killed() -> None:
    rows = [project().methods[name] for name in METHODS]
    assert {row.strategy for row in rows} == set(get_args(StrategySettings.names()))
    assert {row.optimizer or "sgd" for row in rows} == set(get_args(UpdateRuleSettings.names()))


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "most"), [("train", 10), ("eigenspectrum", 1)])  # states kept before a kill
def test_kills_of_every_strategy_and_update_rule_in_turn(tmp_path: Path, stage: str, most: int) -> None:
    """The command, the worker that runs DVC for it, or the whole group, killed while `tag-pipeline repro` runs the stage."""
    clone = fresh_clone(tmp_path)
    clone.edit("params.yaml", "  - naive\n  - stable-ewc\n", "".join(f"  - {name}\n" for name in METHODS))
    clone.edit("params.yaml", "stable: stable-ewc", "stable: naive")
    clone.edit("benchmarks.yaml", "    epochs: 1", "    epochs: 6")  # enough to be hit
    clone.edit("params.yaml", "  k: 3 ", "  k: 12 ")
    clone.edit("params.yaml", "  density_probes: 0 ", "  density_probes: 20 ")
    clone.run(sys.executable, "-m", "pipeline", "repro", "-j", "2", "train", "eigenspectrum")
    moments = random.Random(11)
    environment = {**ENVIRONMENT, "TAG_SAVE_SECONDS": "0.05"}
    gone_on = 0
    for kill, method in enumerate(METHODS):
        who = ("command", "worker", "group")[kill % 3]
        wanted = everything(clone, method)
        log = tmp_path / "logs" / stage / f"{method}-1.json"
        outputs = [f"models/{method}/1", f"metrics/runs/{method}/1.json"]
        if stage == "eigenspectrum":
            outputs = [f"eigenvectors/{method}/1", f"metrics/runs/{method}/1.eigenspectrum.json"]
        clone.run("rm", "-rf", *outputs, ".dvc/cache")  # otherwise DVC would take them from there
        target = [sys.executable, "-m", "pipeline", "repro", "-j", "1", f"{stage}@{method}-1"]
        with subprocess.Popen(
            target,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as engine:
            state = tmp_path / "scratch" / stage / f"{method}-1" / "state.pt"
            wait_for_versions(state, moments.randint(1, most), over=lambda: engine.poll() is not None)
            time.sleep(moments.uniform(0.0, 0.1))
            command = working(clone, stage)
            for process in (
                [*command, *workers(clone)] if who == "group" else workers(clone) if who == "worker" else command
            ):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            if who == "group":
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(engine.pid, signal.SIGKILL)
        wait_until(lambda: not working(clone, stage))
        clone.run(*target)
        gone_on += json.loads(log.read_text(encoding="utf-8"))["resumed"]
        assert everything(clone, method) == wanted, (kill, method, who)
        assert not list((tmp_path / "scratch" / stage / f"{method}-1").iterdir())
    print(f"{stage}: {gone_on} of {len(METHODS)} went on from a kept state")
    assert gone_on >= len(METHODS) // 4  # otherwise the moments missed


def working(clone: Clone, stage: str = "train") -> list[int]:
    """Processes that run a stage in the clone."""
    return processes(clone, f"stages.{stage}")


def workers(clone: Clone) -> list[int]:
    """The processes in which `tag-pipeline repro` runs DVC there."""
    return processes(clone, "pipeline.parallel.dvc_process")
