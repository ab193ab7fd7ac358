"""End to end: what reruns when, experiments, the same bytes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.clones import ENVIRONMENT, RUNS, Clone, stages

# --- what reruns when: the contract of the design


def another_seed(clone: Clone) -> None:
    clone.edit("params.yaml", "  - 1\n", "  - 1\n  - 2\n")


def another_method(clone: Clone) -> None:
    clone.edit("params.yaml", "  - stable-ewc\n", "  - stable-ewc\n  - rmsprop\n")


def what_no_run_uses(clone: Clone) -> None:
    clone.edit("benchmarks.yaml", "    adam:\n      lr: 0.003", "    adam:\n      lr: 0.005")
    clone.edit("params.yaml", "  b: null", "  b: 7")
    clone.edit("params.yaml", "threads: 1", "threads: 2")


def hyper_parameter_of_ewc(clone: Clone) -> None:
    clone.edit("benchmarks.yaml", "ewc_lambda: 1000.0", "ewc_lambda: 500.0")


def eigenspectrum(clone: Clone) -> None:
    clone.edit("params.yaml", "  prediction: true ", "  prediction: false ")
    clone.edit("params.yaml", "  blocks: false ", "  blocks: true ")


def figures(clone: Clone) -> None:
    clone.edit("params.yaml", "dpi: 150", "dpi: 80")


def stream(clone: Clone) -> None:
    clone.edit("benchmarks.yaml", "degrees: 30.0", "degrees: 40.0")


AFTER_RUNS = ("summarize", "figures")


@pytest.mark.parametrize(
    ("change", "reruns"),
    [
        (what_no_run_uses, set()),
        (hyper_parameter_of_ewc, stages(*AFTER_RUNS, runs={"stable-ewc-1"})),
        (another_seed, stages(*AFTER_RUNS, runs={"naive-2", "stable-ewc-2"})),
        (another_method, stages(*AFTER_RUNS, runs={"rmsprop-1"})),
        (eigenspectrum, stages("eigenspectrum@naive-1", "eigenspectrum@stable-ewc-1", *AFTER_RUNS)),
        (figures, {"figures"}),
    ],
)
def test_a_change_reruns_what_it_touches_and_nothing_else(
    clone: Clone, change: Callable[[Clone], None], reruns: set[str]
) -> None:
    change(clone)
    assert clone.repro() - {"plan"} == reruns


def test_another_stream_reruns_from_split_and_switching_back_restores_everything(clone: Clone) -> None:
    before = (clone.folder / "metrics/summary.json").read_bytes()
    stream(clone)
    assert clone.repro() - {"plan"} == stages("split", *AFTER_RUNS, runs=RUNS)
    assert (clone.folder / "metrics/summary.json").read_bytes() != before
    clone.run("git", "checkout", "--quiet", "benchmarks.yaml")
    assert clone.repro() == set()
    assert (clone.folder / "metrics/summary.json").read_bytes() == before


# --- experiments, metrics, plots


def test_an_experiment_with_another_optimizer(clone: Clone) -> None:
    text = clone.run("dvc", "exp", "run", "-S", "optimizer.name=tag")
    ran = set(re.findall(r"^Running stage '([^']+)'", text, re.MULTILINE))
    assert ran == stages("plan", *AFTER_RUNS, runs={"naive-1"})
    assert clone.repro() == set()
    difference = clone.run("dvc", "metrics", "diff")
    assert re.search(r"metrics/methods/naive\.json +average_accuracy", difference)
    assert "stable" not in difference
    assert len(difference.splitlines()) <= 40
    compared = clone.run(sys.executable, "-m", "pipeline", "compare")
    assert re.search(r"^naive: optimizer\.name sgd -> tag; ", compared, re.MULTILINE)
    assert re.search(r"^ +average_accuracy +[\d.]+ +[\d.]+ +[-+][\d.]+ +of one seed: none +1$", compared, re.MULTILINE)
    assert "the same in the one seed of both: stable-ewc" in compared
    clone.edit("params.yaml", "dpi: 150", "dpi: 80")
    assert "note" not in clone.run(sys.executable, "-m", "pipeline", "compare")  # no result hangs on a figure
    clone.edit("params.yaml", "  name: tag", "  name: rmsprop")
    told = clone.run(sys.executable, "-m", "pipeline", "compare")
    assert "results may be older than its files: 'dvc repro' would run or restore plan\n" in told
    clone.run("git", "checkout", "--quiet", "params.yaml")
    clone.run("dvc", "plots", "show")
    page = (clone.folder / "dvc_plots/index.html").read_text(encoding="utf-8")
    assert page.count("vega-lite") >= 6


def test_the_outputs_are_there_and_whole(clone: Clone) -> None:
    summary = json.loads((clone.folder / "metrics/summary.json").read_text(encoding="utf-8"))
    assert {path.stem for path in (clone.folder / "metrics/methods").iterdir()} == set(summary)
    assert set(summary) == {"naive", "stable-ewc"}
    assert 0.2 < summary["naive"]["average_accuracy"] <= 1
    assert summary["naive"]["largest_eigenvalue"] > 0
    assert {path.name for path in (clone.folder / "models/naive/1").iterdir()} == {
        "task-01.safetensors",
        "task-02.safetensors",
    }
    assert {path.stem for path in (clone.folder / "figures").glob("*.png")} >= {"average_accuracy", "stable_plastic"}
    assert clone.run("git", "status", "--porcelain") == ""


def test_the_metrics_of_all_methods_fit_on_a_screen(clone: Clone) -> None:
    shown = clone.run("dvc", "metrics", "show").splitlines()
    assert len(shown) == 1 + len(RUNS)
    assert max(map(len, shown)) <= 120


# --- the same bytes


def test_runs_give_the_same_bytes_also_when_others_run_beside_them(clone: Clone) -> None:
    files = [clone.folder / "metrics/runs/stable-ewc" / name for name in ("1.json", "1.eigenspectrum.json")] + sorted(
        (clone.folder / "models/stable-ewc/1").iterdir()
    )
    before = [file.read_bytes() for file in files]
    beside = [
        subprocess.Popen([sys.executable, "-m", "stages.train", method, "1"], cwd=clone.folder, env=ENVIRONMENT)
        for method in ("stable-ewc", "naive", "naive")
    ]
    # Of two that work on the same run one is kept out.
    assert sorted(process.wait() for process in beside) in ([0, 0, 2], [0, 0, 0])
    clone.stage("eigenspectrum", "stable-ewc", "1")
    assert [file.read_bytes() for file in files] == before
