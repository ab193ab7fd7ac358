"""A killed run goes on and ends with the same numbers; a state that is none of its own is refused."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from torch import Tensor

from pipeline.config import RunPlan
from pipeline.models import TaskModel
from pipeline.streams.reader import Tasks
from pipeline.support.errors import UserError
from pipeline.support.kept import FINISHED, KEPT, UNRECORDED
from pipeline.support.scratch import VARIABLE, Scratch, fingerprint
from pipeline.training.loop import train
from pipeline.training.recorder import Measurements
from tests.conftest import run_plan

CPU = torch.device("cpu")
SGD = {"name": "sgd", "lr": 0.05, "momentum": 0.8}


def tag(base: str) -> dict[str, object]:
    return {"name": "tag", "base": base, "b": 5.0, "lr": 0.002}


#: Every strategy with an update rule that has a state, and every update rule.
PLANS = {
    "naive": run_plan(optimizer=SGD, regime={"lr_decay": 0.5, "min_lr": 5e-5, "dropout": 0.3}),
    "rmsprop": run_plan(optimizer={"name": "rmsprop", "lr": 0.002}),
    "adagrad": run_plan(optimizer={"name": "adagrad", "lr": 0.02}),
    "adam": run_plan(optimizer={"name": "adam", "lr": 0.002}, training={"batch_size": 16, "epochs": 2}),
    "tag": run_plan(optimizer=tag("rmsprop"), regime={"lr_decay": 1.0, "dropout": 0.2}),
    "tag-adagrad": run_plan(optimizer=tag("adagrad")),
    "tag-adam": run_plan(optimizer=tag("adam")),
    "ewc": run_plan(
        optimizer=SGD,
        strategy={"name": "ewc", "ewc_lambda": 10.0, "fisher": "batch", "fisher_batch": 50, "penalty_clip": 1.0},
    ),
    "ewc-exact": run_plan(
        optimizer=tag("rmsprop"), strategy={"name": "ewc", "ewc_lambda": 10.0, "fisher": "exact", "penalty_clip": 1.0}
    ),
    "online-ewc": run_plan(
        optimizer=SGD, strategy={"name": "online-ewc", "ewc_lambda": 10.0, "fisher_interval": 50, "fisher_decay": 0.9}
    ),
    "si": run_plan(optimizer=tag("rmsprop"), strategy={"name": "si", "si_c": 0.1, "damping": 1e-3}),
    "mas": run_plan(optimizer=SGD, strategy={"name": "mas", "mas_lambda": 0.1, "mas_examples": 20}),
    "gem": run_plan(optimizer=SGD, strategy={"name": "gem", "memory_per_class": 2, "margin": 0.5}),
    "agem": run_plan(optimizer=SGD, strategy={"name": "agem", "memory_per_class": 2}),
    "er": run_plan(optimizer=tag("adam"), strategy={"name": "er", "memory_per_class": 2}),
    "er-ring": run_plan(
        optimizer=SGD,
        strategy={"name": "er", "memory_per_class": 2, "memory": "ring", "one_pass": True, "memory_batch": 5},
    ),
    "derpp": run_plan(
        optimizer=SGD, strategy={"name": "derpp", "memory_per_class": 2, "derpp_alpha": 0.5, "derpp_beta": 0.5}
    ),
    "lwf": run_plan(optimizer=SGD, strategy={"name": "lwf", "lwf_lambda": 1.0, "temperature": 2.0}),
    "multitask": run_plan(optimizer=SGD, strategy={"name": "multitask"}),
    "multitask-passes": run_plan(optimizer=SGD, strategy={"name": "multitask-passes", "passes": 2}),
    "multitask-visits": run_plan(optimizer=SGD, strategy={"name": "multitask-passes", "visits": 5}),
}


class KilledError(Exception):
    """Stands for the end of the process."""


class Mortal(Scratch):
    """A scratch that keeps a state every few steps and dies at a given number of questions."""

    def __init__(self, folder: Path, every: int, dies: int | None, key: str = "k") -> None:
        super().__init__(folder, key, "train test")
        self.every, self.dies, self.asked = every, dies, 0

    def due(self) -> bool:
        self.asked += 1
        if self.asked == self.dies:
            raise KilledError
        return self.asked % self.every == 0


def run(plan: RunPlan, tasks: Tasks, scratch: Scratch | None) -> tuple[Measurements, list[dict[str, Tensor]]]:
    kept: list[dict[str, Tensor]] = []

    def keep(task: int, model: TaskModel) -> None:
        kept.append({name: value.clone() for name, value in model.state_dict().items()})

    return train(plan, tasks, 3, CPU, after_task=keep, scratch=scratch), kept


@pytest.mark.parametrize("name", PLANS)
def test_a_run_that_dies_again_and_again_ends_with_the_same_numbers(
    name: str, two_tasks: Tasks, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = PLANS[name]
    whole, wanted = run(plan, two_tasks, None)
    # Dies within the first task, at its very end, within the second, and right after a state was kept.
    for dies in (40, 85, 3, 1, 50, None):
        with Mortal(tmp_path / "run", every=7, dies=dies) as scratch:
            try:
                record, kept = run(plan, two_tasks, scratch)
            except KilledError:
                continue
    assert capsys.readouterr().err.count("resuming from") == 5
    assert vars(record) == vars(whole)
    for name_, value in kept[-1].items():
        assert torch.equal(value, wanted[-1][name_])


def test_a_state_is_kept_after_each_task_however_soon(two_tasks: Tasks, tmp_path: Path) -> None:
    def stop(task: int, model: TaskModel) -> None:
        if task == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Scratch(tmp_path / "run", "k", "train naive-1") as scratch:
        train(run_plan(), two_tasks, 1, CPU, after_task=stop, scratch=scratch)
    with Scratch(tmp_path / "run", "k", "train naive-1") as scratch:
        train(run_plan(), two_tasks, 1, CPU, scratch=scratch)
        assert scratch.resumed


def test_a_state_of_another_key_is_refused_and_told(
    two_tasks: Tasks, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = PLANS["er"]
    with Mortal(tmp_path / "run", every=5, dies=30) as scratch, pytest.raises(KilledError):
        run(plan, two_tasks, scratch)
    (tmp_path / "run" / "task-01.safetensors").write_bytes(b"of another run")
    with Mortal(tmp_path / "run", every=500, dies=None, key="other") as scratch:
        record, _ = run(plan, two_tasks, scratch)
    assert "belongs to a different plan, data or code: starting over" in capsys.readouterr().err
    assert not (tmp_path / "run" / "task-01.safetensors").exists()
    assert vars(record) == vars(run(plan, two_tasks, None)[0])


@pytest.mark.parametrize("damage", [b"", b"no state", None])
def test_a_truncated_state_is_refused_and_told(
    two_tasks: Tasks, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: bytes | None
) -> None:
    plan = PLANS["tag"]
    with Mortal(tmp_path / "run", every=5, dies=30) as scratch, pytest.raises(KilledError):
        run(plan, two_tasks, scratch)
    state = tmp_path / "run" / "state.pt"
    state.write_bytes(state.read_bytes()[:-1000] if damage is None else damage)
    with Mortal(tmp_path / "run", every=500, dies=None) as scratch:
        record, _ = run(plan, two_tasks, scratch)
    assert "cannot be read" in capsys.readouterr().err
    assert vars(record) == vars(run(plan, two_tasks, None)[0])


@pytest.mark.parametrize(
    "error",
    [
        OSError(5, "Input/output error"),
        PermissionError(13, "Permission denied"),
        PermissionError(1, "Operation not permitted"),
        MemoryError(),
        RuntimeError("[enforce fail] can't allocate memory: 9"),
    ],
)
def test_a_state_that_cannot_be_read_now_is_kept(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise error

    with Scratch(tmp_path / "run", "k", "train naive-1") as scratch:
        scratch.save("task 2", {"weights": torch.ones(3)})
        with monkeypatch.context() as patch, pytest.raises(type(error)):
            patch.setattr(torch, "load", failing)
            scratch.load()
        held = scratch.load()
    assert held and torch.equal(held["weights"], torch.ones(3))


def test_a_second_writer_is_kept_out(tmp_path: Path) -> None:
    first, second = (Scratch(tmp_path / "run", "k", "train naive-1") for _ in range(2))
    with first, pytest.raises(UserError, match="train naive-1: another process is working on it"):
        second.__enter__()
    with second:
        pass


def test_a_state_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Scratch(tmp_path / "run", "k", "train naive-1") as scratch:
        (tmp_path / "run").mkdir(exist_ok=True)
        torch.save({"key": "k", "reached": "x", "other": Hostile()}, scratch.state)
        assert scratch.load() is None
    output = capsys.readouterr()
    assert "pwned" not in output.out
    assert "cannot be read" in output.err


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("pwned",))


def test_a_fingerprint_knows_contents_names_and_words(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("1", encoding="utf-8")
    (tmp_path / "plan.yaml").write_text("lr: 1", encoding="utf-8")
    files = [tmp_path / "code", tmp_path / "plan.yaml"]
    first = fingerprint(files, 1, "cpu")
    assert first == fingerprint(files, 1, "cpu")
    assert first != fingerprint(files, 2, "cpu")
    (tmp_path / "code" / "a.py").write_text("2", encoding="utf-8")
    second = fingerprint(files, 1, "cpu")
    (tmp_path / "code" / "a.py").rename(tmp_path / "code" / "b.py")
    assert len({first, second, fingerprint(files, 1, "cpu")}) == 3


def test_what_a_finished_run_has_made_is_kept_until_dvc_has_recorded_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "train@naive-1")
    folder = Path("scratch/train/naive-1")

    def finished(key: str = "k") -> str | None:
        with Scratch(folder, key, "train naive-1") as scratch:
            return scratch.unrecorded()

    def finish() -> None:
        with Scratch(folder, "k", "train naive-1") as scratch:
            (folder / "task-01.safetensors").write_bytes(b"weights")
            scratch.save("task 2", {})
            scratch.finish("metrics", keep_state=False)
            scratch.settle()

    finish()
    assert {path.name for path in folder.iterdir()} == {"finished.json", "task-01.safetensors"}
    assert finished() == finished() == "metrics"
    (folder / "task-01.safetensors").write_bytes(b"")  # as a power cut leaves it
    assert finished() is None and not list(folder.iterdir())
    finish()
    assert finished("other") is None and not list(folder.iterdir())
    finish()
    Path("dvc.lock").write_text(f"md5: {hashlib.md5(b'metrics').hexdigest()}", encoding="utf-8")
    assert finished() is None and not list(folder.iterdir())
    monkeypatch.delenv("DVC_STAGE")
    finish()
    assert not list(folder.iterdir()), "nobody will record it"


def test_what_finished_long_ago_is_removed_by_other_runs_once_dvc_has_recorded_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.lock").write_text(f"md5: {hashlib.md5(b'recorded').hexdigest()}", encoding="utf-8")
    hour, month = KEPT + 60, UNRECORDED + 60
    runs = {
        "old-1": ('{"text": "recorded"}', hour, False),
        "new-1": ('{"text": "recorded"}', 60, True),
        "busy-1": ('{"text": "recorded"}', hour, True),
        "lost-1": ('{"text": "not recorded"}', hour, True),
        "lost-2": ('{"text": "not recorded"}', month, False),
        "cut-1": ('{"te', hour, False),
    }
    for name, (text, age, _) in runs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / FINISHED).write_text(text, encoding="utf-8")
        os.utime(tmp_path / name / FINISHED, (time.time() - age,) * 2)
    with FileLock(tmp_path / "busy-1.lock"), Scratch(tmp_path / "naive-1", "k", "train naive-1"):
        left = {name: (tmp_path / name / FINISHED).exists() for name in runs}
    assert left == {name: stays for name, (_, _, stays) in runs.items()}


def test_a_run_that_is_killed_while_it_finishes_has_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(path: Path, *given: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setenv("DVC_STAGE", "train@naive-1")
    with Scratch(tmp_path / "run", "k", "train naive-1") as scratch:
        (scratch.folder / "task-01.safetensors").write_bytes(b"weights")
        scratch.save("task 2", {"at": 7})
        with monkeypatch.context() as patched:
            patched.setattr("pipeline.support.scratch.digest", killed)
            with pytest.raises(KeyboardInterrupt):
                scratch.finish("metrics", keep_state=False)
    with Scratch(tmp_path / "run", "k", "train naive-1") as scratch:
        assert scratch.unrecorded() is None
        state = scratch.load()
    assert state is not None and state["at"] == 7


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
def test_a_finished_run_that_cannot_be_read_now_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fails(path: Path, *given: object) -> str:
        raise OSError(number, "not now", str(path))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "train@naive-1")
    with Scratch(tmp_path / "run", "k", "train naive-1") as scratch:
        (scratch.folder / "task-01.safetensors").write_bytes(b"weights")
        scratch.finish("metrics", keep_state=False)
    with Scratch(tmp_path / "run", "k", "train naive-1") as scratch, monkeypatch.context() as patched:
        patched.setattr("pipeline.support.scratch.digest", fails)
        with pytest.raises(OSError, match="not now"):
            scratch.unrecorded()
    with Scratch(tmp_path / "run", "k", "train naive-1") as scratch:
        assert scratch.unrecorded() == "metrics"


def test_the_seconds_of_an_interrupted_process_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("pipeline.support.scratch.time.monotonic", lambda: now)
    for spent in (30.0, 12.0):
        with Scratch(tmp_path / "run", "k", "train naive-1") as scratch:
            scratch.load()
            now += spent
            scratch.save("task 2", {})
    with Scratch(tmp_path / "run", "k", "train naive-1") as scratch:
        assert scratch.seconds_before == 0.0
        scratch.load()
        assert scratch.seconds_before == 42.0


@pytest.mark.parametrize("given", ["-1", "nan", "soon"])
def test_seconds_between_states_are_a_number_from_0_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv(VARIABLE, given)
    with pytest.raises(UserError, match=rf"TAG_SAVE_SECONDS: must be a number of seconds from 0 up, is '{given}'"):
        Scratch(tmp_path / "run", "k", "train naive-1")


def test_a_state_is_due_again_only_after_as_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("pipeline.support.scratch.time.monotonic", lambda: now)
    monkeypatch.setenv(VARIABLE, "20")
    with Scratch(tmp_path / "run", "k", "train naive-1") as scratch:
        assert not scratch.due()
        now += 20
        assert scratch.due()
        scratch.save("task 2", {})
        assert not scratch.due()
