"""What changed between two versions of the results, and whether it is more than seeds do."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.search import compare as module
from pipeline.search.compare import Version, changes, compare, differences
from pipeline.support.errors import UserError
from tests.clones import Clone, one_line
from tests.paths import ROOT


def version(name: str, accuracies: dict[str, list[float | None]], lr: float = 0.1, degrees: float = 30.0) -> Version:
    """Seeds count from 1; None is a seed without a run. Forgetting and the eigenvalue hang on the accuracy."""
    runs = pd.DataFrame(
        [
            {"method": m, "seed": seed, "average_accuracy": v, "forgetting": 0.25, "largest_eigenvalue": 10 * v}
            for m, values in accuracies.items()
            for seed, v in enumerate(values, start=1)
            if v is not None
        ]
    )
    settings = {m: {"optimizer.lr": lr, "strategy.name": "naive"} for m in accuracies}
    return Version(name, "rotated-digits", runs, settings, {"data.stream.degrees": degrees})


def test_runs_are_paired_by_seed() -> None:
    old = version("old", {"tag": [0.5, 0.6, 0.7, None]})
    new = version("new", {"tag": [0.51, 0.62, None, 0.9]})
    table = differences(old, new, "tag").set_index("metric")
    assert list(table.index) == ["average_accuracy", "forgetting", "largest_eigenvalue"]
    row = table.loc["average_accuracy"]
    assert (row["old"], row["new"], row["seeds"]) == (pytest.approx(0.55), pytest.approx(0.565), 2)
    # By hand: differences 0.01 and 0.02, standard error 0.005, t of one degree of freedom 12.7062.
    assert row["change"].mean == pytest.approx(0.015)
    assert (row["change"].low, row["change"].high) == (pytest.approx(-0.048531), pytest.approx(0.078531))
    assert not row["equal"]
    assert table.loc["forgetting", "equal"]


def test_settings_that_differ_are_told_also_where_only_one_has_them() -> None:
    assert changes({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 4, "d": 5}) == ["b 2 -> 4", "c 3 -> -", "d - -> 5"]


def shown(monkeypatch: pytest.MonkeyPatch, old: Version, new: Version, methods: str | None = None) -> None:
    versions = {None: new, "HEAD": old}
    monkeypatch.setattr(module, "read_version", versions.__getitem__)
    compare(None, None, methods)


def test_what_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    old = version("HEAD", {"tag": [0.50, 0.60, 0.70], "er": [0.6], "gone": [0.1]})
    new = version("workspace", {"tag": [0.54, 0.65, 0.75], "er": [0.6], "new": [0.1]}, degrees=20.0)
    shown(monkeypatch, old, new)
    told = capsys.readouterr().out
    assert told.splitlines()[0].startswith("HEAD -> workspace, paired by seed, with 95 % intervals")
    assert "\nfor all methods: data.stream.degrees 30.0 -> 20.0\n" in told
    assert "\ntag: the same settings\n" in told
    rows = {line.split()[0]: line.split()[1:] for line in told.splitlines() if line.startswith((" ", "largest"))}
    assert rows["average_accuracy"] == ["60.0", "64.7", "+4.7", "[+3.2,", "+6.1]", "*", "3"]
    assert rows["forgetting"] == ["25.0", "25.0", "+0.0", "equal", "in", "all", "seeds", "3"]
    assert rows["largest_eigenvalue"][:3] == ["6", "6.47", "+0.467"]
    assert "the same in the one seed of both: er\n" in told
    assert "only in HEAD: method gone\n" in told
    assert "only in workspace: method new\n" in told


def test_other_settings_with_the_same_values_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown(monkeypatch, version("HEAD", {"tag": [0.5]}), version("workspace", {"tag": [0.5]}, lr=0.2))
    assert "tag: optimizer.lr 0.1 -> 0.2\nthe same in the one seed of both\n" in capsys.readouterr().out


def test_what_only_one_has_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    old = version("HEAD", {"tag": [0.5, 0.6], "er": [0.6, None], "naive": [0.4, None]})
    new = version("workspace", {"tag": [0.5, 0.6, 0.7], "er": [None, 0.6], "naive": [0.4, None]})
    new = replace(new, runs=new.runs.drop(columns="forgetting"))
    shown(monkeypatch, old, new)
    told = capsys.readouterr().out
    assert "the same in all 2 seeds of both: tag\n" in told
    assert "the same in the one seed of both: naive\n" in told
    assert "without a seed in both: er\n" in told
    assert "only in HEAD: metric forgetting\n" in told
    assert "only in workspace: seed 3\n" in told


@pytest.mark.parametrize("name", ["seeds", "change", "95 % interval"])
def test_a_version_may_be_called_as_a_column_is(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown(monkeypatch, version("HEAD", {"tag": [0.5, 0.6]}), version(name, {"tag": [0.6, 0.8]}))
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "average_accuracy" in line]
    assert row.split()[1:4] == ["55.0", "70.0", "+15.0"]


def test_two_benchmarks_are_no_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(version("workspace", {"tag": [0.5]}), benchmark="permuted-digits")
    with pytest.raises(UserError, match="HEAD ran rotated-digits and workspace permuted-digits"):
        shown(monkeypatch, version("HEAD", {"tag": [0.5]}), other)


def test_a_method_or_seeds_that_the_two_do_not_share_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = version("HEAD", {"tag": [0.5]}), version("workspace", {"tag": [None, 0.5]})
    with pytest.raises(UserError, match=r"--methods tga: not in both; did you mean 'tag'"):
        shown(monkeypatch, one, other, "tga")
    with pytest.raises(UserError, match=r"no method has a seed in both"):
        shown(monkeypatch, one, other)


def test_mistakes_are_lines(tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    for name in ("params.yaml", "benchmarks.yaml", "methods.yaml", "dvc.yaml", "pipeline"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    clone.run("git", "init", "--quiet")
    clone.run("dvc", "init", "--quiet")
    clone.commit("nothing has run")

    def told(*arguments: str) -> str:
        return one_line(clone.run(sys.executable, "-m", "pipeline", "compare", *arguments, status=2))

    assert "HEAD: plots/runs.csv is in neither DVC's cache nor its default remote" in told()
    assert "plots/runs.csv: missing; run 'dvc repro'" in told("workspace", "HEAD")
    assert "'slow': neither a revision of Git nor an experiment" in told("slow")
    locked: dict[str, Any] = {
        "stages": {"summarize": {"outs": [{"path": "plots", "hash": "md5", "md5": "0" * 32 + ".dir"}]}}
    }
    (tmp_path / "dvc.lock").write_text(json.dumps({"schema": "2.0", **locked}), encoding="utf-8")
    clone.commit("a result that the cache does not hold")
    assert "HEAD: plots/runs.csv is in neither DVC's cache nor its default remote" in told("HEAD")
    entry = "    cmd: python -m stages.summarize\n    params:\n      params.yaml:\n        benchmark: split-cifar100\n"
    other = "  plan:\n    cmd: python -m stages.plan\n"
    (tmp_path / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n{other}  summarize:\n{entry}", encoding="utf-8")
    clone.commit("a result of another benchmark")
    assert "HEAD: its plots/runs.csv is not of its params.yaml (benchmark); run 'make repro' there" in told("HEAD")
    assert "'^HEAD': neither a revision" in told("^HEAD")
    assert "'-HEAD': neither a revision" in told("--", "-HEAD")
    clone.run("git", "rm", "--quiet", "--cached", "methods.yaml")
    clone.run("git", "commit", "--quiet", "--message", "less")
    assert "HEAD: has no methods.yaml; name a revision of this project" in told()


def test_of_several_experiments_of_a_name_that_of_head_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = Clone(tmp_path)
    clone.run("git", "init", "--quiet")
    hashes: dict[str, str] = {}
    for name in ("one", "two", "three"):
        clone.run("git", "commit", "--quiet", "--allow-empty", "--message", name)
        hashes[name] = clone.run("git", "rev-parse", "HEAD").strip()
        clone.run("git", "commit", "--quiet", "--allow-empty", "--message", f"experiment on {name}")
        made = clone.run("git", "rev-parse", "HEAD").strip()
        clone.run("git", "update-ref", f"refs/exps/{hashes[name][:2]}/{hashes[name][2:]}/slow", made)
        hashes[f"on {name}"] = made
        clone.run("git", "reset", "--quiet", "--hard", hashes[name])
    monkeypatch.chdir(tmp_path)
    assert module._commit("slow") == hashes["on three"]
    clone.run("git", "commit", "--quiet", "--allow-empty", "--message", "later")
    with pytest.raises(UserError, match="slow: 3 experiments are called so"):
        module._commit("slow")
    clone.run("git", "branch", "slow", hashes["one"])
    assert module._commit("slow") == hashes["one"]
