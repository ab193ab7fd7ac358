"""Git acts on the repository of the folder that it is run in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline.support.errors import UserError
from pipeline.support.git import environment, git, unlock
from tests.clones import ENVIRONMENT


def repository(folder: Path) -> Path:
    folder.mkdir()
    for command in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "--message", folder.name]):
        subprocess.run(["git", *command], cwd=folder, env=ENVIRONMENT, check=True)
    return folder


def test_the_repository_is_that_of_the_folder_whatever_git_has_set_for_its_hooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = repository(tmp_path / "mine"), repository(tmp_path / "other")
    branch = git("symbolic-ref", "HEAD", folder=mine)
    monkeypatch.setenv("GIT_DIR", str(mine / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(mine))
    monkeypatch.setenv("GIT_INDEX_FILE", str(mine / ".git/index"))
    assert git("log", "--format=%s", folder=other) == "other"
    git("checkout", "--quiet", "--force", "--detach", "HEAD", folder=other)
    assert git("symbolic-ref", "HEAD", folder=mine) == branch
    assert git("rev-parse", "--abbrev-ref", "HEAD", folder=other) == "HEAD"
    monkeypatch.chdir(other)
    assert git("log", "--format=%s") == "other"


def test_configuration_and_names_given_by_variables_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a container says which folders are safe."""
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "somebody")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "author")
    assert git("config", "user.name", folder=repository(tmp_path / "mine")) == "somebody"
    assert environment()["GIT_AUTHOR_NAME"] == "author"


def test_the_locks_of_a_killed_git_are_removed_those_of_references_too(tmp_path: Path) -> None:
    folder = repository(tmp_path / "mine")
    for lock in ("index.lock", "refs/mine.lock", "refs/origin/topic/a.lock"):
        path = folder / ".git" / lock
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises(UserError, match="refs/mine"):
        git("update-ref", "refs/mine", "HEAD", folder=folder)
    unlock(folder)
    for name in ("refs/mine", "refs/origin/topic/a"):
        git("update-ref", name, "HEAD", folder=folder)
    git("reset", "--hard", "--quiet", folder=folder)


def test_what_git_says_against_a_command_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^git rev-parse: fatal: "):
        git("rev-parse", "HEAD", folder=tmp_path)
