"""End to end, in clones of the project with a shortened benchmark: what reruns when, bytes, mistakes."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pipeline.repro import lock_order
from tests.conftest import ROOT, edit

BIN = Path(sys.executable).parent
ENVIRONMENT = {
    **{key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "GIT_", "PYTHONPATH"))},
    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
}

RUNS = {"naive-1", "stable-ewc-1"}


def stages(*names: str, runs: set[str] | None = None) -> set[str]:
    """Stage names: those given, and train and eigenspectrum of `runs`."""
    return {*names} | {f"{stage}@{run}" for stage in ("train", "eigenspectrum") for run in runs or ()}


class Clone:
    """A checkout with its own DVC cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str, status: int | None = 0) -> str:
        """stdout and stderr together; asserts the exit status."""
        done = subprocess.run(
            command, cwd=self.folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert status is None or done.returncode == status, done.stdout
        return done.stdout

    def stage(self, name: str, *arguments: str, status: int | None = 0) -> str:
        return self.run(sys.executable, "-m", f"stages.{name}", *arguments, status=status)

    def repro(self, *arguments: str) -> set[str]:
        """The stages that ran."""
        return set(re.findall(r"^Running stage '([^']+)'", self.run("dvc", "repro", *arguments), re.MULTILINE))

    def edit(self, file: str, old: str, new: str) -> None:
        edit(self.folder / file, old, new)

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)


def fresh_clone(folder: Path) -> Clone:
    """The project's files as they are in the working tree (committed or not, ignored ones left out), in a new repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists() and not name.startswith(("metrics/", "dvc.lock", "docs/", "results/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    clone = Clone(folder)
    clone.edit(
        "params.yaml",
        "  - stable\n  - rmsprop\n  - tag\n  - ewc\n  - agem\n  - er\n  - multitask\n",
        "  - stable-ewc\n",
    )
    clone.edit("params.yaml", "stable: stable ", "stable: stable-ewc ")
    clone.edit("params.yaml", "  - 2\n  - 3\n", "")
    clone.edit("benchmarks.yaml", "    tasks: 5", "    tasks: 2")
    clone.run("git", "init", "--quiet")
    clone.commit("base")
    return clone


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone whose pipeline has run. Tests take copies of it."""
    clone = fresh_clone(tmp_path_factory.mktemp("base"))
    assert clone.repro() == stages("plan", "download", "split", "summarize", "figures", runs=RUNS)
    clone.commit("run")
    return clone


@pytest.fixture
def clone(base: Clone, tmp_path: Path) -> Clone:
    """A copy of the finished base, cache included."""
    shutil.copytree(base.folder, tmp_path / "clone", symlinks=True)
    return Clone(tmp_path / "clone")


# --- what reruns when: the contract of the design


def another_seed(clone: Clone) -> None:
    clone.edit("params.yaml", "  - 1\n", "  - 1\n  - 2\n")


def another_method(clone: Clone) -> None:
    clone.edit("params.yaml", "  - stable-ewc\n", "  - stable-ewc\n  - rmsprop\n")


def optimizer(clone: Clone) -> None:
    clone.edit("params.yaml", "name: sgd", "name: tag")


def unused_hyper_parameter(clone: Clone) -> None:
    clone.edit("benchmarks.yaml", "    adam:\n      lr: 0.003", "    adam:\n      lr: 0.005")
    clone.edit("params.yaml", "  b: null", "  b: 7")


def hyper_parameter_of_ewc(clone: Clone) -> None:
    clone.edit("benchmarks.yaml", "ewc_lambda: 1000.0", "ewc_lambda: 500.0")


def eigenspectrum(clone: Clone) -> None:
    clone.edit("params.yaml", "k: 3", "k: 2")


def figures(clone: Clone) -> None:
    clone.edit("params.yaml", "dpi: 150", "dpi: 80")


def compute(clone: Clone) -> None:
    clone.edit("params.yaml", "threads: 1", "threads: 2")


def stream(clone: Clone) -> None:
    clone.edit("benchmarks.yaml", "degrees: 30.0", "degrees: 40.0")


AFTER_RUNS = ("summarize", "figures")


@pytest.mark.parametrize(
    ("change", "reruns"),
    [
        (optimizer, stages(*AFTER_RUNS, runs={"naive-1"})),
        (unused_hyper_parameter, set()),
        (hyper_parameter_of_ewc, stages(*AFTER_RUNS, runs={"stable-ewc-1"})),
        (another_seed, stages(*AFTER_RUNS, runs={"naive-2", "stable-ewc-2"})),
        (another_method, stages(*AFTER_RUNS, runs={"rmsprop-1"})),
        (eigenspectrum, stages("eigenspectrum@naive-1", "eigenspectrum@stable-ewc-1", *AFTER_RUNS)),
        (figures, {"figures"}),
        (compute, set()),
    ],
)
def test_a_change_reruns_what_it_touches_and_nothing_else(
    clone: Clone, change: Callable[[Clone], None], reruns: set[str]
) -> None:
    change(clone)
    assert clone.repro() - {"plan"} == reruns
    assert clone.repro() == set()


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
    difference = clone.run("dvc", "metrics", "diff")
    assert re.search(r"metrics/methods/naive\.json +average_accuracy", difference)
    assert "stable" not in difference
    assert len(difference.splitlines()) <= 40
    clone.run("dvc", "plots", "show")
    page = (clone.folder / "dvc_plots/index.html").read_text(encoding="utf-8")
    assert page.count("vega-lite") >= 6


def test_the_outputs_are_there_and_whole(base: Clone) -> None:
    summary = json.loads((base.folder / "metrics/summary.json").read_text(encoding="utf-8"))
    assert {path.stem for path in (base.folder / "metrics/methods").iterdir()} == set(summary)
    assert set(summary) == {"naive", "stable-ewc"}
    assert 0.2 < summary["naive"]["average_accuracy"] <= 1
    assert summary["naive"]["largest_eigenvalue"] > 0
    assert {path.name for path in (base.folder / "models/naive/1").iterdir()} == {
        "task-01.safetensors",
        "task-02.safetensors",
    }
    assert {path.stem for path in (base.folder / "figures").glob("*.png")} >= {"average_accuracy", "stable_plastic"}
    assert base.run("git", "status", "--porcelain") == ""


# --- the same bytes


# --- stages side by side


def side_by_side(clone: Clone, *arguments: str, status: int | None = 0) -> str:
    return clone.run(sys.executable, "-m", "pipeline.repro", *arguments, status=status)


def test_stages_side_by_side_give_the_same_lock_and_the_same_bytes(base: Clone, tmp_path: Path) -> None:
    clone = fresh_clone(tmp_path)
    dry = side_by_side(clone, "--dry").split()
    assert set(dry) == stages("plan", "download", "split", "summarize", "figures", runs=RUNS)
    assert dry.index("split") < dry.index("train@naive-1") < dry.index("eigenspectrum@naive-1") < dry.index("summarize")
    assert "dvc repro finds nothing more to do" in side_by_side(clone, "-j", "3")
    assert (clone.folder / "dvc.lock").read_bytes() == (base.folder / "dvc.lock").read_bytes()
    for method in ("naive", "stable-ewc"):
        assert everything(clone, method) == everything(base, method)
    assert "nothing to do" in side_by_side(clone)
    clone.edit("params.yaml", "dpi: 150", "dpi: 80")
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
    assert text.rstrip().splitlines()[-1].startswith("repro: 1 of ")
    assert side_by_side(clone, "--dry").split()[0] == "train@naive-1"


def test_an_unknown_target_or_scheduler_is_a_line(clone: Clone) -> None:
    assert "no stage 'trian' in dvc.yaml; did you mean 'train" in one_line(side_by_side(clone, "trian", status=2))
    assert "--jobs 0: at least 1" in one_line(side_by_side(clone, "-j", "0", status=2))


# --- killed runs


def everything(clone: Clone, method: str) -> dict[str, bytes]:
    """The bytes of a run's outputs."""
    folders = [clone.folder / "models" / method / "1", clone.folder / "metrics" / "runs" / method]
    return {path.name: path.read_bytes() for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("who", ["command", "group"])
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(clone: Clone, who: str) -> None:
    wanted = everything(clone, "stable-ewc")
    moments = random.Random(7)
    environment = {**ENVIRONMENT, "TAG_SAVE_SECONDS": "0.05"}
    for stage in ("train", "eigenspectrum"):
        command = [sys.executable, "-m", f"stages.{stage}", "stable-ewc", "1"]
        for _ in range(4):
            with subprocess.Popen(
                command, cwd=clone.folder, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
            ) as running:
                try:
                    running.wait(moments.uniform(2.0, 4.5))
                except subprocess.TimeoutExpired:
                    os.killpg(running.pid, signal.SIGKILL) if who == "group" else running.kill()
        clone.run(*command)
        assert not list((clone.folder / "scratch" / stage / "stable-ewc-1").iterdir())
    assert everything(clone, "stable-ewc") == wanted


def test_a_command_whose_dvc_was_killed_does_not_write_on(clone: Clone) -> None:
    clone.edit("benchmarks.yaml", "    epochs: 1", "    epochs: 200")
    with subprocess.Popen(
        ["dvc", "repro", "train@naive-1"],
        cwd=clone.folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as dvc:
        deadline = time.monotonic() + 60
        while not (commands := working(clone)) and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(3)  # past the imports, into training
        dvc.kill()
    assert commands
    deadline = time.monotonic() + 10
    while working(clone) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not working(clone)


def working(clone: Clone) -> list[int]:
    """Processes that train in the clone."""
    found = []
    for process in psutil.process_iter():
        try:
            if "stages.train" in process.cmdline() and process.cwd() == str(clone.folder):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


# --- pages, in a browser without a network

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def browse(page: Path) -> tuple[str, list[str]]:
    """The page's elements once its scripts have run, and what it told the console of errors."""
    assert CHROMIUM
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=10000", "--enable-logging=stderr", "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    told = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, [line for line in told if "INFO:CONSOLE" not in line or "Error" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package chromium)")
def test_the_page_of_plots_draws_every_plot_without_a_network(clone: Clone) -> None:
    clone.run("dvc", "plots", "show", "--quiet")
    elements, errors = browse(clone.folder / "dvc_plots" / "index.html")
    declared = re.findall(
        r"^  - (.+):$", (clone.folder / "dvc.yaml").read_text().partition("\nplots:\n")[2], re.MULTILINE
    )
    assert len(declared) >= 6
    assert elements.count("<canvas") == len(declared)
    assert errors == []


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package chromium)")
def test_the_plots_of_two_revisions_are_told_apart(clone: Clone) -> None:
    clone.edit("params.yaml", "  b: null", "  b: 7")
    clone.edit("benchmarks.yaml", "lr: 0.2", "lr: 0.1")
    clone.repro()
    clone.run("dvc", "plots", "diff", "--quiet", "HEAD")
    page = clone.folder / "dvc_plots" / "index.html"
    elements, errors = browse(page)
    assert errors == []
    assert elements.count("<canvas") >= 6
    assert all(f'"rev": "{revision}"' in page.read_text() for revision in ("HEAD", "workspace"))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian's package chromium)")
def test_the_report_shows_its_table_and_figures_without_a_network(base: Clone) -> None:
    figures = base.folder / "figures"
    elements, errors = browse(figures / "report.html")
    assert errors == []
    assert elements.count("<img") == len(list(figures.glob("*.png"))) >= 8
    assert "<td>naive</td>" in elements


def test_the_metrics_of_all_methods_fit_on_a_screen(base: Clone) -> None:
    shown = base.run("dvc", "metrics", "show").splitlines()
    assert len(shown) == 1 + len(RUNS)
    assert max(map(len, shown)) <= 120


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


# --- mistakes: one line, status 2, nothing half-written


def one_line(text: str) -> str:
    assert text.count("\n") == 1, text
    return text


def test_a_wrong_parameter_stops_before_anything_is_touched(clone: Clone) -> None:
    clone.edit("params.yaml", "name: sgd", "name: sdg")
    assert "did you mean 'sgd'" in one_line(clone.stage("plan", "--check", status=2))
    assert "did you mean 'sgd'" in clone.run("dvc", "repro", status=None)
    assert (clone.folder / "models/naive/1/task-02.safetensors").exists()


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_task_file_is_named(clone: Clone, damage: str) -> None:
    path = clone.folder / "data/tasks/task-02/train_images.npy"
    content = path.read_bytes()
    path.unlink()  # it may be a link into the cache
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    text = one_line(clone.stage("train", "naive", "1", status=2))
    assert "data/tasks/task-02/train_images.npy: " + damage in text
    assert [path.name for path in (clone.folder / "models/naive").iterdir()] == ["1"]


def test_a_diverging_run_names_method_seed_task_and_step(clone: Clone) -> None:
    shutil.rmtree(clone.folder / "models/naive")
    clone.edit("runs/naive.yaml", "lr: 0.2", "lr: 1e6")
    assert "train: naive, seed 1: the loss is" in one_line(clone.stage("train", "naive", "1", status=2))
    assert not (clone.folder / "models/naive").exists()


def test_an_output_folder_that_cannot_be_written_is_named(clone: Clone) -> None:
    """A file where the folder should be stands in for a folder without permission, which root would not notice."""
    shutil.rmtree(clone.folder / "models")
    (clone.folder / "models").touch()
    assert "models" in one_line(clone.stage("train", "naive", "1", status=2))
    shutil.rmtree(clone.folder / "figures")
    (clone.folder / "figures").touch()
    assert "figures" in one_line(clone.stage("figures", status=2))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_output_folder_is_named(clone: Clone) -> None:
    folder = clone.folder / "models/naive"
    folder.chmod(0o555)
    assert "models/naive" in one_line(clone.stage("train", "naive", "1", status=2))
    folder.chmod(0o755)


@pytest.mark.parametrize(
    ("stage", "arguments", "output", "told"),
    [
        ("train", ("naive", "1"), "models/naive/1", "scratch/train/naive-1"),
        ("split", (), "data/tasks", "data"),
        ("download", (), "data/raw", "data"),
    ],
)
def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(
    clone: Clone, stage: str, arguments: tuple[str, ...], output: str, told: str
) -> None:
    """A limit on the size of files stands in for a full disk."""
    shutil.rmtree(clone.folder / output)
    code = (
        "import resource, runpy, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        f"sys.argv = {['x', *arguments]!r}\n"
        f"runpy.run_module('stages.{stage}', run_name='__main__')"
    )
    text = one_line(clone.run(sys.executable, "-c", code, status=2))
    assert told in text
    folder = (clone.folder / output).parent
    assert [path.name for path in folder.iterdir() if ".partial-" in path.name] == []
    assert not (clone.folder / output).exists()


@pytest.mark.parametrize("arguments", [(), ("naive",), ("naive", "one")])
def test_wrong_arguments_show_the_usage(arguments: tuple[str, ...]) -> None:
    assert "usage: " in one_line(Clone(ROOT).stage("train", *arguments, status=2))


def test_the_lock_keeps_its_order_and_takes_new_stages_in_that_of_the_graph() -> None:
    text = "schema: '2.0'\nstages:\n" + "".join(f"  {name}:\n    cmd: {name}\n" for name in ("d", "a", "c@1", "b"))
    ordered = lock_order(["a", "b"], text, ["b", "c@1", "d"])
    assert ordered.startswith("schema: '2.0'\nstages:\n")
    assert re.findall("cmd: (.+)", ordered) == ["a", "b", "c@1", "d"]
    assert sorted(ordered.splitlines()) == sorted(text.splitlines())
