"""Stages side by side: the same lock, the same bytes, failures told."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil
import pytest

from pipeline.parallel.graph import Graph
from tests.clones import ENVIRONMENT, RUNS, Clone, everything, fresh_clone, one_line, stages
from tests.waiting import LIMIT, wait_until


def side_by_side(clone: Clone, *arguments: str, status: int | None = 0) -> str:
    return clone.run(sys.executable, "-m", "pipeline", "repro", *arguments, status=status)


def test_stages_side_by_side_give_the_same_lock_and_the_same_bytes(base: Clone, tmp_path: Path) -> None:
    clone = fresh_clone(tmp_path)
    dry = side_by_side(clone, "--dry").split()
    assert set(dry) == stages("plan", "download", "split", "summarize", "figures", runs=RUNS)
    assert dry.index("split") < dry.index("train@naive-1") < dry.index("eigenspectrum@naive-1") < dry.index("summarize")
    assert "dvc repro finds nothing more to do" in side_by_side(clone, "-j", "2")
    assert (clone.folder / "dvc.lock").read_bytes() == (base.folder / "dvc.lock").read_bytes()
    for method in ("naive", "stable-ewc"):
        assert everything(clone, method) == everything(base, method)
    assert "nothing to do" in side_by_side(clone)
    clone.edit("params.yaml", "dpi: 150", "dpi: 80")
    text = side_by_side(clone)
    assert re.findall(r"^(\S+): \d", text, re.MULTILINE) == ["plan", "figures"]
    clone.edit("params.yaml", "dpi: 80", "dpi: 150")
    assert set(side_by_side(clone, "--dry", "train").split()) == {
        "plan", "download", "split", "train@naive-1", "train@stable-ewc-1",
    }  # fmt: skip


def test_a_stage_that_fails_is_shown_and_what_does_not_need_it_may_go_on(clone: Clone) -> None:
    clone.edit("params.yaml", "  lr: null", "  lr: 1000000.0")
    clone.edit("benchmarks.yaml", "ewc_lambda: 1000.0", "ewc_lambda: 500.0")
    text = side_by_side(clone, "-j", "2", "--keep-going", status=2)
    assert "train@naive-1: FAILED" in text
    assert "the loss is" in text
    assert re.search(r"^eigenspectrum@stable-ewc-1: \d", text, re.MULTILINE)
    assert text.rstrip().splitlines()[-1].startswith("repro: failed: train@naive-1; ")
    assert side_by_side(clone, "--dry").split()[0] == "train@naive-1"


def test_an_unknown_target_is_a_line(clone: Clone) -> None:
    assert "no stage 'trian' in dvc.yaml; did you mean 'train" in one_line(side_by_side(clone, "trian", status=2))
    assert "--jobs '0': must be a whole number" in one_line(side_by_side(clone, "-j", "0", status=2))


def test_a_scheduler_that_does_not_answer_is_a_line(clone: Clone) -> None:
    clone.edit("params.yaml", "dpi: 150", "dpi: 80")
    text = one_line(side_by_side(clone, "--scheduler", "tcp://127.0.0.1:9", status=2))
    assert "--scheduler tcp://127.0.0.1:9: no scheduler answers" in text
    text = one_line(side_by_side(clone, "--scheduler", "tls://127.0.0.1:9", status=2))
    assert "give Dask its certificates: distributed.comm.tls" in text


def trivial(folder: Path, stages: Mapping[str, tuple[str, Sequence[str]]]) -> Clone:
    """A repository whose stages write one file each. stages: the command, and the stages that it depends on."""
    clone = Clone(folder, plain=True)
    clone.run("git", "init", "--quiet")
    clone.run("dvc", "init", "--quiet")
    clone.run("dvc", "config", "core.analytics", "false")
    described = {
        name: {
            "cmd": f"{command} && echo {name} > {name}.txt",
            "deps": [f"{d}.txt" for d in deps],
            "outs": [f"{name}.txt"],
        }
        for name, (command, deps) in stages.items()
    }
    (folder / "dvc.yaml").write_text(json.dumps({"stages": described}, indent=1), encoding="utf-8")  # JSON is YAML
    clone.commit("stages")
    return clone


@pytest.mark.parametrize(("count", "jobs"), [(24, 4), pytest.param(60, 8, marks=pytest.mark.slow)])
def test_many_stages_at_once_do_not_stumble_over_locks(tmp_path: Path, count: int, jobs: int) -> None:
    names = [f"s{number:02}" for number in range(count)]
    third = count // 3
    stages_ = {name: ("true", [names[k - third]] if k >= third else []) for k, name in enumerate(names)}
    clone = trivial(tmp_path, stages_)
    assert f"{count} stages ({count} ran)" in side_by_side(clone, "-j", str(jobs))
    assert len(re.findall("^  s", (tmp_path / "dvc.lock").read_text(encoding="utf-8"), re.MULTILINE)) == count
    assert clone.repro() == set()


def test_what_stages_that_succeed_have_to_say_is_shown_and_only_once_if_all_say_it(tmp_path: Path) -> None:
    clone = trivial(tmp_path, {name: ("sh say.sh", []) for name in ("a", "b")})
    said = 'echo "train: note: this machine is slow" >&2; echo "train $DVC_STAGE: note: resuming" >&2; echo more'
    (tmp_path / "say.sh").write_text(said, encoding="utf-8")
    notes = [line for line in side_by_side(clone).splitlines() if ": note: " in line]
    assert sorted(notes) == ["train a: note: resuming", "train b: note: resuming", "train: note: this machine is slow"]


def test_a_stage_takes_a_gpu_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs, by name, and three stages at once: never two on one."""
    monkeypatch.setitem(ENVIRONMENT, "CUDA_VISIBLE_DEVICES", "3,5")
    # Each waits for the other two, so that all three run at once however slow the machine is: up to two minutes, then the
    # test fails.
    wait = "for _ in $(seq 1200); do [ $(wc -l < log) -ge 3 ] && break; sleep 0.1; done"
    note = f"echo $DVC_STAGE $CUDA_VISIBLE_DEVICES >> log; {wait}"
    clone = trivial(tmp_path, {name: (note, []) for name in ("train", "train-2", "eigenspectrum")})
    clone.edit("dvc.yaml", '"train-2":', '"summarize":')
    side_by_side(clone, "-j", "3", "--gpu")
    lines = [line.split() for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines()]
    assert {device for stage, device in lines if stage in ("train", "eigenspectrum")} == {"3", "5"}
    assert ["summarize", "3,5"] in lines


def test_ctrl_c_ends_what_runs_and_the_next_run_goes_on(tmp_path: Path) -> None:
    clone = trivial(tmp_path, {"quick": ("true", []), "slow": ("sleep 6000", ["quick"]), "other": ("sleep 6000", [])})
    command = [sys.executable, "-m", "pipeline", "repro", "-j", "2"]
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # not ignored, as where tests run in the background
    with engine(command, tmp_path) as running:
        signal.signal(signal.SIGINT, before)
        wait_until(lambda: len(sleeping(clone)) == 2)
        listening = [c.laddr.ip for c in psutil.Process(running.pid).net_connections("inet") if c.status == "LISTEN"]
        assert set(listening) <= {"127.0.0.1"}  # nobody on the network is invited
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=LIMIT)  # not when the stages have slept enough
    assert running.returncode == 130
    assert told.rstrip().splitlines()[-1].startswith("repro: interrupted")
    assert not sleeping(clone)
    end_early(clone)
    assert "quick" not in side_by_side(clone, "--dry").split()
    assert "dvc repro finds nothing more to do" in side_by_side(clone, "-j", "1")


def test_nothing_outlives_a_killed_engine(tmp_path: Path) -> None:
    clone = trivial(tmp_path, {"slow": ("sleep 6000", []), "other": ("sleep 6000", [])})
    command = [sys.executable, "-m", "pipeline", "repro", "-j", "2"]
    with engine(command, tmp_path) as running:
        wait_until(lambda: len(sleeping(clone)) == 2)
        running.kill()
    wait_until(lambda: not sleeping(clone))
    end_early(clone)
    assert "dvc repro finds nothing more to do" in side_by_side(clone, "-j", "1")


def test_what_is_handed_out_before_dvc_is_asked_again() -> None:
    stages = {"plan": [], "train": ["plan"], "other": ["plan"], "summarize": ["train", "other"]}

    def handed(*changed: str) -> dict[str, list[str]]:
        return Graph(stages, frozenset(changed)).next()

    assert handed() == {}
    assert handed(*stages) == stages
    assert list(handed("plan")) == ["plan"]  # the others only if what it makes has changed
    assert handed("train", "other") == {"train": [], "other": [], "summarize": ["train", "other"]}
    assert list(handed("train")) == ["train"]
    assert list(handed("summarize")) == ["summarize"]


@contextlib.contextmanager
def engine(command: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive the block, also where a check in it fails."""
    with subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def sleeping(clone: Clone) -> list[int]:
    """Commands of the clone's stages that run."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name() == "sleep" and process.cwd() == str(clone.folder):
                found.append(process.pid)
    return found


def end_early(clone: Clone) -> None:
    """Let the stages that sleep end at once."""
    path = clone.folder / "dvc.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("sleep 6000", "true"), encoding="utf-8")
