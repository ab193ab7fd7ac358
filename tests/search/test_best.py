"""The best setting of a search, from the experiments that DVC keeps in Git."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from pipeline.search.best import Found, compare
from tests.clones import Clone, one_line
from tests.paths import ROOT


@pytest.fixture
def searched(tmp_path: Path) -> Clone:
    """A repository with experiments as DVC keeps them: a commit each, named by a reference."""
    clone = Clone(tmp_path)
    for name in ("params.yaml", "benchmarks.yaml", "methods.yaml", "pipeline", "published.csv"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    clone.run("git", "init", "--quiet")
    clone.edit("params.yaml", "  - stable\n  - rmsprop\n", "  - rmsprop\n")
    clone.edit("params.yaml", "stable: stable ", "stable: naive ")
    for number, (name, lr, accuracy, judged) in enumerate(
        [("a-slow", 0.01, 0.61, "validation"), ("b-right", 0.1, 0.72, "validation"), ("c-test", 0.2, 0.9, "test")]
    ):
        sgd = "optimizers:\n    sgd:\n      lr: "
        text = (ROOT / "benchmarks.yaml").read_text(encoding="utf-8").replace(f"{sgd}0.2", f"{sgd}{lr}", 1)
        text = text.replace("evaluation: test ", f"evaluation: {judged} ", 1)
        (tmp_path / "benchmarks.yaml").write_text(text, encoding="utf-8")
        (tmp_path / "metrics" / "methods").mkdir(parents=True, exist_ok=True)
        metrics = {"average_accuracy": accuracy, "average_accuracy_std": 0.01, "forgetting": accuracy / 2}
        (tmp_path / "metrics" / "methods" / "naive.json").write_text(json.dumps(metrics), encoding="utf-8")
        clone.commit(name)
        clone.run("git", "update-ref", f"refs/exps/1{number}/{'0' * 38}/{name}", "HEAD")
    clone.run("git", "update-ref", "refs/exps/exec/EXEC_HEAD", "HEAD")
    return clone


def best(clone: Clone, *arguments: str, status: int = 0) -> str:
    return clone.run(sys.executable, "-m", "pipeline", "best", *arguments, status=status)


def test_the_best_comes_first_and_test_images_are_not_looked_at(searched: Clone) -> None:
    text = best(searched)
    assert "1 experiments left out: not judged on validation images (c-test)" in text
    assert text.rstrip().splitlines()[-3:] == [
        "experiment   lr  seeds  average_accuracy  average_accuracy_std",
        "   b-right 0.10      5              0.72                  0.01",
        "    a-slow 0.01      5              0.61                  0.01",
    ]
    assert "c-test" in best(searched, "--evaluation", "test").splitlines()[-1]


def test_of_forgetting_the_least_is_best(searched: Clone) -> None:
    assert "a-slow" in best(searched, "naive", "--metric", "forgetting").rstrip().splitlines()[-2]


def test_of_experiments_with_the_same_settings_the_last_is_listed() -> None:
    found = [
        Found(name, "naive", "validation", 3, {"optimizer.lr": lr}, {"average_accuracy": accuracy})
        for name, lr, accuracy in (("first", 0.1, 0.9), ("other", 0.2, 0.5), ("again", 0.1, 0.8))
    ]
    assert compare(found, "average_accuracy")["experiment"].tolist() == ["again", "other"]


def test_mistakes_are_lines(searched: Clone) -> None:
    assert "--metric accuracy: unknown; did you mean" in one_line(best(searched, "--metric", "accuracy", status=2))
    # known to a run's summary, but no experiment keeps it
    assert "stability_gap: unknown" in one_line(best(searched, "--metric", "stability_gap", status=2))
    told = best(searched, "--metric", "largest_eigenvalue", status=2).splitlines()
    assert told[1:] == ["best: --metric largest_eigenvalue: none of the experiments measured it"]
    assert "no experiment here holds tag" in one_line(best(searched, "tag", status=2))


def test_how_to_judge_on_validation_images_is_told_as_dvc_takes_it(searched: Clone) -> None:
    """A key that the file does not have yet needs a plus."""
    for number, name in enumerate(("a-slow", "b-right")):
        searched.run("git", "update-ref", "-d", f"refs/exps/1{number}/{'0' * 38}/{name}")
    *_, told = best(searched, status=2).splitlines()
    assert "run some with -S benchmarks.yaml:rotated-digits.evaluation=validation (" in told
    searched.edit("params.yaml", "benchmark: rotated-digits", "benchmark: split-cifar100")
    *_, told = best(searched, status=2).splitlines()
    assert "run some with -S benchmarks.yaml:+split-cifar100.evaluation=validation (" in told
