"""The files that hosts and editors read are well formed, agree with each other, and call commands that exist."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.clones import Clone
from tests.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def load(path: Path) -> Any:
    return YAML().load(path.read_text(encoding="utf-8"))


def tracked(*patterns: str) -> list[Path]:
    """The project's files that match, committed or about to be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split() if (ROOT / name).is_file()]


@cache
def targets() -> set[str]:
    """What can be made."""
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def exists(command: str) -> bool:
    """Whether a command of a workflow is there: a target of the Makefile, a file, or a program that set-up installs."""
    first, *rest = command.split()
    if first == "make":
        return set(rest) <= targets()
    if first.startswith(".venv/bin/"):
        wanted = [re.split(r"[<>=\[]", each)[0] for each in PROJECT["optional-dependencies"]["test"]]
        return first.removeprefix(".venv/bin/") in wanted
    if first == "sudo":
        return rest[0] == "apt-get"
    return (ROOT / first).is_file() and bool((ROOT / first).stat().st_mode & 0o100)


def test_every_yaml_file_can_be_read() -> None:
    files = tracked("*.yaml", "*.yml", "*.cff")
    assert len(files) > 20
    for path in files:
        assert load(path) is not None, path


@pytest.mark.parametrize("path", WORKFLOWS, ids=[path.stem for path in WORKFLOWS])
def test_a_workflow_may_read_alone_ends_in_time_and_calls_what_exists(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    for job in workflow["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 360
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])
            for command in re.split(r"&&|\n", step.get("run", "")):
                assert not command.strip() or exists(command), command


def test_the_workflows_run_what_ci_runs_on_every_python_from_the_oldest_on() -> None:
    jobs = load(ROOT / ".github/workflows/tests.yml")["jobs"]
    assert [step["run"] for step in jobs["versions"]["steps"] if "run" in step][-1] == ".ci/run"
    of_ci = set(re.findall(r"^make [a-z]+$", (ROOT / ".ci/run").read_text(encoding="utf-8"), re.MULTILINE))
    assert of_ci == {"make test", "make docs", "make repro"}
    versions = jobs["versions"]["strategy"]["matrix"]["python"]
    assert versions[0] == PROJECT["requires-python"].removeprefix(">=")
    assert versions == sorted(versions, key=lambda version: int(version.split(".")[1]))


def test_a_check_of_commands_fails_where_there_is_none() -> None:
    assert not exists("make nothing")
    assert not exists(".ci/nothing")
    assert not exists(".venv/bin/nothing")


def test_the_version_is_the_same_everywhere() -> None:
    version = PROJECT["version"]
    assert str(load(ROOT / "CITATION.cff")["version"]) == version
    released = re.findall(
        r"^## \[([\d.]+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert released[0] == (version, load(ROOT / "CITATION.cff")["date-released"])
    assert f"version = {{{version}}}" in (ROOT / "docs/citing.md").read_text(encoding="utf-8")


def test_both_papers_can_be_cited() -> None:
    text = (ROOT / "docs/citing.md").read_text(encoding="utf-8")
    for paper in load(ROOT / "CITATION.cff")["references"]:
        assert re.sub(r"[{}]", "", text).count(paper["title"]) == 1
        assert f"eprint    = {{{paper['url'].rpartition('/')[2]}}}" in text


def test_the_container_and_the_hooks_call_what_exists() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    assert exists(container["postCreateCommand"])
    for repository in load(ROOT / ".pre-commit-config.yaml")["repos"]:
        for hook in repository["hooks"]:
            assert exists(hook["entry"]), hook["entry"]


def test_types_are_shipped() -> None:
    assert (ROOT / "pipeline/py.typed").is_file()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert "py.typed" in settings["package-data"]["pipeline"]


def test_artifacts_are_outputs_and_change_nothing(clone: Clone) -> None:
    stages = load(ROOT / "dvc.yaml")
    params = load(ROOT / "params.yaml")
    named = {str(artifact["path"]) for artifact in stages["artifacts"].values()}
    assert named == {f"models/{method}/{params['seeds'][0]}" for method in params["methods"]}
    lock = (clone.folder / "dvc.lock").read_bytes()
    text = (clone.folder / "dvc.yaml").read_text(encoding="utf-8")
    without = re.sub(r"^artifacts:\n(?: .*\n)+", "", text, flags=re.MULTILINE)
    assert "artifacts" not in without
    (clone.folder / "dvc.yaml").write_text(without, encoding="utf-8")
    assert "up to date" in clone.run("dvc", "status")
    assert (clone.folder / "dvc.lock").read_bytes() == lock
