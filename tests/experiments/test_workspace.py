"""The clone that an experiment runs in is made of the project, and leaves the project alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.config import read_configuration
from pipeline.experiments.workspace import prepare, run, save_experiment
from pipeline.parallel.dvc import experiment_ref
from pipeline.support.errors import UserError
from pipeline.support.git import git
from tests.clones import Clone
from tests.parallel.test_side_by_side import trivial
from tests.paths import ROOT


def project(folder: Path) -> Clone:
    """The least that can be cloned: a commit, DVC's folder and the files that a clone has its own of."""
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc/config").touch()
    (folder / ".dvc/.gitignore").write_text("config.local\n/tmp\n/cache\n", encoding="utf-8")
    (folder / ".gitignore").write_text("/scratch\n", encoding="utf-8")
    for name in ("params", "benchmarks", "methods"):
        (folder / f"{name}.yaml").write_text("{}\n", encoding="utf-8")
    clone = Clone(folder)
    clone.run("git", "init", "--quiet")
    clone.commit("base")
    return clone


def test_the_clone_of_a_call_from_a_hook_is_what_is_checked_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a linked worktree Git gives hooks, aliases and `rebase --exec` its GIT_DIR."""
    mine = project(tmp_path / "mine")
    mine.run("git", "worktree", "add", "--quiet", "-b", "linked", str(tmp_path / "linked"))
    monkeypatch.chdir(tmp_path / "linked")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "mine/.git/worktrees/linked"))
    for _ in range(2):  # made, and brought up to date
        folder = prepare("small", read_configuration(ROOT))
    monkeypatch.delenv("GIT_DIR")
    assert git("symbolic-ref", "HEAD") == "refs/heads/linked"
    assert git("status", "--porcelain") == ""
    assert git("rev-parse", "--abbrev-ref", "HEAD", folder=folder) == "HEAD"


@pytest.mark.parametrize("name", ["a#b", "a,b", "a #b, 'c'"])
def test_the_clone_has_the_cache_of_the_project_whatever_its_folder_is_called(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = project(tmp_path / name)
    monkeypatch.chdir(mine.folder)
    folder = prepare("small", read_configuration(ROOT))
    told = Clone(mine.folder / folder).run("dvc", "cache", "dir").strip()
    assert Path(told) == mine.folder / ".dvc/cache"


def test_a_project_within_a_larger_repository_cannot_be_cloned_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = project(tmp_path / "larger")
    (mine.folder / "inner").mkdir()
    (mine.folder / "inner/params.yaml").write_text("{}\n", encoding="utf-8")
    mine.commit("a project in a folder")
    monkeypatch.chdir(mine.folder / "inner")
    with pytest.raises(UserError, match="this folder, which is inner/ of a larger repository; give it one of its own"):
        prepare("small", read_configuration(ROOT))
    assert not Path("scratch").exists()


def test_the_folder_of_the_images_may_begin_with_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trivial(tmp_path, {})
    matrix = {"method": ["a"], "seed": [1]}
    stages = {"train": {"matrix": matrix, "cmd": "echo $TAG_DATASETS > a.txt", "outs": ["a.txt"]}}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": stages}), encoding="utf-8")
    monkeypatch.setenv("TAG_DATASETS", "~/sets")
    assert run(tmp_path, [("a", 1)], eigenspectrum=False, jobs=1, options=[]) == 0
    assert (tmp_path / "a.txt").read_text(encoding="utf-8").strip() == str((Path.home() / "sets").resolve())


@pytest.mark.parametrize("protocol", ["0", "2"])
def test_an_experiment_is_saved_by_every_git(protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before version 2 of the protocol, the default since Git 2.26, a server sends only what a reference leads to."""
    mine = project(tmp_path / "mine")
    monkeypatch.chdir(mine.folder)
    folder = prepare("small", read_configuration(ROOT))
    (folder / "dvc.lock").write_text("schema: '2.0'\n", encoding="utf-8")
    for key, value in (("COUNT", "1"), ("KEY_0", "protocol.version"), ("VALUE_0", protocol)):
        monkeypatch.setenv(f"GIT_CONFIG_{key}", value)
    save_experiment(folder, "one", {"tag": {"average_accuracy": 0.5}})
    reference = experiment_ref(git("rev-parse", "HEAD", folder=folder), "one")
    assert git("show", f"{reference}:metrics/methods/tag.json").split() == ["{", '"average_accuracy":', "0.5", "}"]
    assert git("log", "-1", "--format=%s", reference) == "experiment one"


def test_a_broken_configuration_of_dvc_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = project(tmp_path / "mine")
    (mine.folder / ".dvc/config.local").write_text("[cache\n", encoding="utf-8")
    monkeypatch.chdir(mine.folder)
    with pytest.raises(UserError, match=r"dvc cache dir: .+; fix \.dvc/config"):
        prepare("small", read_configuration(ROOT))


def test_the_other_runs_go_on_where_one_fails(tmp_path: Path) -> None:
    trivial(tmp_path, {})
    matrix = {"method": ["a", "b"], "seed": [1]}
    command = "test ${item.method} = b && echo done > ${item.method}.txt"
    stages = {"train": {"matrix": matrix, "cmd": command, "outs": ["${item.method}.txt"]}}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": stages}), encoding="utf-8")
    assert run(tmp_path, [("a", 1), ("b", 1)], eigenspectrum=False, jobs=1, options=[]) == 2
    assert (tmp_path / "b.txt").exists()
    assert not (tmp_path / "a.txt").exists()
