"""Commands in forks of one process: as in processes of their own, or not at all.

That a fork gives the same bytes is told where processes of their own repeat what the clone `base` has from forks:
tests/test_pipeline.py, tests/parallel/test_side_by_side.py and tests/parallel/test_clones.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.clones import ENVIRONMENT, Clone, fresh_clone
from tests.forkserver import module_of, run_in_fork

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="stages are forked on Linux alone")
PLAN = (sys.executable, "-m", "stages.plan")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return fresh_clone(tmp_path_factory.mktemp("forks"))


def forked(clone: Clone, *command: str) -> tuple[int, str] | None:
    return run_in_fork(command, clone.folder, ENVIRONMENT)


def test_a_fork_tells_the_status_and_the_words_of_a_command(small: Clone) -> None:
    assert forked(small, *PLAN) == (0, "")
    assert (small.folder / "runs/naive.yaml").exists()
    status, words = forked(small, sys.executable, "-m", "stages.train", "naive") or (0, "")
    assert (status, words) == (2, "train: usage: python -m stages.train METHOD SEED, as in 'naive 1'\n")
    status, words = forked(small, "dvc", "repro", "none") or (0, "")
    assert status == 255
    assert "Stage 'none' not found" in words
    status, words = forked(small, sys.executable, "-m", "pipeline", "rpro") or (0, "")
    assert status == 2
    assert "repro" in words


def test_a_stage_of_dvc_that_fails_fails_there_too(small: Clone) -> None:
    small.edit("params.yaml", "name: sgd", "name: sdg")
    try:
        status, words = forked(small, "dvc", "repro", "plan") or (0, "")
        assert status == 255
        assert "did you mean 'sgd'" in words
        assert "failed to run: python -m stages.plan, exited with 2" in words
    finally:
        small.edit("params.yaml", "name: sdg", "name: sgd")


def test_other_code_is_left_to_a_process(small: Clone) -> None:
    code = small.folder / "stages/plan.py"
    text = code.read_text(encoding="utf-8")
    small.edit("stages/plan.py", "def main() -> None:\n", "def main() -> None:\n    print('other')\n")
    try:
        assert forked(small, *PLAN) is None
        assert small.run(*PLAN) == "other\n"
    finally:
        code.write_text(text, encoding="utf-8")
    assert forked(small, *PLAN) == (0, "")


def test_other_arithmetic_is_left_to_a_process(small: Clone) -> None:
    small.edit("params.yaml", "portable: true", "portable: false")
    try:
        assert forked(small, *PLAN) is None
        assert small.run(*PLAN) == ""
    finally:
        small.edit("params.yaml", "portable: false", "portable: true")


@pytest.mark.parametrize(
    "command",
    [
        ("git", "status"),
        ("python3", "-m", "stages.plan"),
        ("python", "-c", "pass"),
        ("python", "-m", "stages.forks", "3"),
        ("python", "-m", "pipeline.parallel.dvc_process"),
    ],
)
def test_other_commands_are_left_to_a_process(command: tuple[str, ...]) -> None:
    assert module_of(command) is None


def test_a_folder_without_the_project_has_dvc_alone(tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    assert forked(clone, *PLAN) is None
    status, words = forked(clone, "dvc", "status") or (0, "")
    assert status == 253
    assert "not inside of a DVC repository" in words
