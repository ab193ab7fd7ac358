"""Experiments run, kept, and compared: on a small one in a clone."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.config import read_configuration
from pipeline.experiments.experiments import configured, plans, read_experiments
from pipeline.experiments.finished import collect
from pipeline.experiments.records import Key, read_record
from pipeline.support.files import digest
from tests.clones import Clone, fresh_clone, one_line
from tests.cluster import cluster

SMALL = """
small:
  paper: Stable SGD
  description: two tasks of digits
  benchmark: rotated-digits
  eigenspectrum: {k: 3, tolerance: 0.001, max_products: 500, images: test, seed: 0}
  tables:
    - title: both
      seeds: [1]
      methods: [naive, tag]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone whose only experiment is small, and was run."""
    clone = fresh_clone(tmp_path_factory.mktemp("reproduce"))
    (clone.folder / "experiments.yaml").write_text(SMALL, encoding="utf-8")
    (clone.folder / "docs").mkdir(exist_ok=True)
    (clone.folder / "docs/reproductions.md").write_text("# Rerun\n<!-- table -->\n<!-- /table -->\n", encoding="utf-8")
    clone.commit("small")
    reproduce(clone, "small", "--methods", "naive")
    return clone


@pytest.fixture(scope="module")
def complete(project: Clone) -> Clone:
    """The same clone, once all runs of the experiment are there."""
    if not (project.folder / "results/small/runs/tag-1.json").exists():
        reproduce(project, "small")
    return project


def reproduce(clone: Clone, *arguments: str, status: int = 0) -> str:
    return clone.run(sys.executable, "-m", "pipeline", "reproduce", *arguments, status=status)


def missing(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, int], Key]:
    """The experiment's runs without a record, as `reproduce` finds them, without its process."""
    monkeypatch.chdir(clone.folder)
    experiment = read_experiments()["small"]
    configuration = configured(read_configuration(), "small", experiment)
    data, methods = plans(configuration)
    keys = {run: Key.of(methods[run[0]], data, configuration.params.eigenspectrum) for run in experiment.runs}
    return {run: key for run, key in keys.items() if read_record("small", *run, key) is None}


def taken(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many of these are recorded from the workspace of the last call."""
    return collect(Path("scratch/reproduce/small"), "small", missing(clone, monkeypatch))


def test_runs_are_kept_in_pieces_and_only_what_is_missing_runs(project: Clone) -> None:
    runs = project.folder / "results/small/runs"
    assert [path.name for path in runs.iterdir()] == ["naive-1.json"]
    first = (runs / "naive-1.json").read_bytes()
    record = json.loads(first)
    assert record["commit"] == project.run("git", "rev-parse", "HEAD").strip()
    assert len(record["spectrum"]["tasks"]) == 2
    assert {"plan", "data", "machine", "eigenspectrum"} <= set(record)
    assert record["seconds"] > 0
    assert record["images"] == digest(project.folder / "scratch/reproduce/small/data/tasks/manifest.json", "sha256")
    assert "small                            1 of 2 runs" in reproduce(project)
    (project.folder / "params.yaml").write_bytes((project.folder / "params.yaml").read_bytes() + b"# mine\n")
    text = reproduce(project, "small")
    assert "train@tag-1" in text
    assert "train@naive-1" not in text
    assert (runs / "naive-1.json").read_bytes() == first
    assert "small: 2 of 2 runs; results/small/report.md" in reproduce(project, "small")
    folder = project.folder / "results/small"
    assert {"runs.csv", "summary.csv", "summary.json", "settings.yaml", "report.md", "eigenvalues.png"} <= {
        path.name for path in folder.iterdir()
    }
    assert "| tag | both | 1 of 1 |" in (folder / "report.md").read_text(encoding="utf-8")
    table = (project.folder / "docs/reproductions.md").read_text(encoding="utf-8")
    assert "| [small](#small) | Stable SGD | two tasks of digits | 2 of 2 |" in table
    assert "### small" in table
    assert "| naive | 1 |" in table
    (project.folder / "docs/reproductions.md").write_text("<!-- table -->\n<!-- /table -->\n", encoding="utf-8")
    assert reproduce(project, "--report") == "docs/reproductions.md: renewed from the records\n"
    assert (project.folder / "docs/reproductions.md").read_text(encoding="utf-8") == table.partition("\n")[2]
    assert "small" in project.run("dvc", "exp", "list", "--name-only")


def test_a_run_of_another_plan_counts_as_not_run(complete: Clone) -> None:
    complete.edit("benchmarks.yaml", "      lr: 0.2\n", "      lr: 0.3\n")
    try:
        assert "1 of 2 runs" in reproduce(complete)  # naive alone takes that rate
        assert "benchmarks.yaml is not committed; commit it first" in one_line(reproduce(complete, "small", status=2))
    finally:
        complete.edit("benchmarks.yaml", "      lr: 0.3\n", "      lr: 0.2\n")


def test_finished_runs_of_another_clone_are_taken(complete: Clone, tmp_path: Path) -> None:
    record = complete.folder / "results/small/runs/naive-1.json"
    kept = record.read_bytes()
    record.unlink()
    noted = complete.folder / "scratch/reproduce/small/scratch/recorded"
    before = sorted(noted.iterdir())
    noted.rename(noted.with_name("aside"))
    assert "1 runs taken" in reproduce(complete, "small", "--from", "scratch/reproduce/small")
    assert record.read_bytes() == kept
    assert not noted.exists()  # nothing is written into another clone
    noted.with_name("aside").rename(noted)
    assert sorted(noted.iterdir()) == before
    assert "nothing of small there" in one_line(reproduce(complete, "small", "--from", str(tmp_path), status=2))
    record.unlink()
    workspace = Clone(complete.folder / "scratch/reproduce/small")
    workspace.edit("params.yaml", "eigenspectrum:\n", "eigenspectrum:\n  foo: 1\n")
    try:
        told = one_line(reproduce(complete, "small", "--from", "scratch/reproduce/small", status=2))
        assert "reproduce: scratch/reproduce/small: params.yaml: eigenspectrum.foo: unknown key" in told
    finally:
        workspace.edit("params.yaml", "eigenspectrum:\n  foo: 1\n", "eigenspectrum:\n")
        record.write_bytes(kept)


def test_records_of_another_clone_are_taken_whatever_it_is_doing_now(complete: Clone, tmp_path: Path) -> None:
    """Its next call checks the workspace out anew, so that of earlier runs only the records are left."""
    record = complete.folder / "results/small/runs/naive-1.json"
    kept, other = record.read_bytes(), tmp_path / "other/results/small/runs/naive-1.json"
    other.parent.mkdir(parents=True)
    record.rename(other)
    assert "1 runs taken" in reproduce(complete, "small", "--from", str(tmp_path / "other"))
    assert record.read_bytes() == kept

    record.unlink()
    other.write_bytes(re.sub(rb'"plan": "\w{8}', b'"plan": "00000000', kept))
    assert "0 runs taken" in reproduce(complete, "small", "--from", str(tmp_path / "other"))
    other.write_bytes(kept[:100])
    assert f"{other}: " in one_line(reproduce(complete, "small", "--from", str(tmp_path / "other"), status=2))
    assert not record.exists()
    assert "1 runs taken" in reproduce(complete, "small", "--from", ".")  # its own workspace
    assert record.read_bytes() == kept


def test_runs_of_an_ordinary_clone_are_taken_only_where_its_commit_made_them(complete: Clone, tmp_path: Path) -> None:
    """A record names the commit; between the run and now somebody may have changed the code, and changed it back."""
    record = complete.folder / "results/small/runs/naive-1.json"
    kept = record.read_bytes()
    other = Clone(tmp_path / "other")
    shutil.copytree(complete.folder / "scratch/reproduce/small", other.folder, symlinks=True)
    record.unlink()
    try:
        code = other.folder / "pipeline/optimizers/tag.py"
        text = code.read_text(encoding="utf-8")
        code.write_text(text + "\n", encoding="utf-8")
        told = one_line(reproduce(complete, "small", "--from", str(other.folder), status=2))
        assert "pipeline/optimizers/tag.py is not committed there" in told
        other.commit("other code")
        told = reproduce(complete, "small", "--from", str(other.folder))
        assert "1 runs of" in told
        assert "made by other code than is there now: left out" in told
        assert "0 runs taken" in told
        code.write_text(text, encoding="utf-8")
        other.commit("the code of before")
        assert "1 runs taken" in reproduce(complete, "small", "--from", str(other.folder))
    finally:
        record.write_bytes(kept)


def test_two_calls_for_one_experiment_do_not_share_its_clone(complete: Clone) -> None:
    record = complete.folder / "results/small/runs/naive-1.json"
    kept = record.read_bytes()
    lock = complete.folder / "scratch/reproduce/small/dvc.lock"
    before = lock.read_bytes()
    record.unlink()
    try:
        with FileLock(complete.folder / "scratch/reproduce/small.lock"):
            told = one_line(reproduce(complete, "small", status=2))
        assert "another 'tag-pipeline reproduce small' is running here" in told
        assert lock.read_bytes() == before
    finally:
        record.write_bytes(kept)


def test_a_users_settings_of_the_eigenspectrum_change_no_experiment(complete: Clone) -> None:
    complete.edit("params.yaml", "  k: 3 ", "  k: 5 ")
    complete.edit("params.yaml", "  blocks: false", "  blocks: true")
    try:
        assert "2 of 2 runs" in reproduce(complete, "small", "--report")
    finally:
        complete.edit("params.yaml", "  k: 5 ", "  k: 3 ")
        complete.edit("params.yaml", "  blocks: true", "  blocks: false")


def test_the_report_names_the_runs_on_a_gpu(complete: Clone) -> None:
    report, record = (complete.folder / "results/small" / name for name in ("report.md", "runs/naive-1.json"))
    told, kept = report.read_bytes(), record.read_bytes()
    try:
        record.write_bytes(kept.replace(b'"device": "cpu"', b'"device": "NVIDIA X"'))
        reproduce(complete, "small", "--report")
        text = report.read_text(encoding="utf-8")
        assert "Runs on NVIDIA X, with their seeds: naive (1). All others on a CPU.\n" in text
    finally:
        record.write_bytes(kept)
    reproduce(complete, "small", "--report")
    assert report.read_bytes() == told


def test_what_an_interrupted_call_finished_is_kept_whatever_the_next_one_asks_for(complete: Clone) -> None:
    records = {path: path.read_bytes() for path in (complete.folder / "results/small/runs").iterdir()}
    for path in records:
        path.unlink()
    shutil.rmtree(complete.folder / "scratch/reproduce/small/scratch/recorded")  # as though nobody had recorded them
    text = reproduce(complete, "small", "--methods", "tag")
    assert "train@" not in text
    assert "small: 2 of 2 runs" in text
    assert {path: path.read_bytes() for path in records} == records


def test_a_record_that_is_deleted_is_not_made_again_of_the_old_outputs(
    complete: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, lock = (
        complete.folder / "results/small/runs/naive-1.json",
        complete.folder / "scratch/reproduce/small/dvc.lock",
    )
    kept, locked = record.read_bytes(), lock.read_bytes()
    record.unlink()
    try:
        keys = missing(complete, monkeypatch)
        assert list(keys) == [("naive", 1)]
        assert collect(Path("scratch/reproduce/small"), "small", keys, once=True) == 0
        assert not record.exists()
        assert taken(complete, monkeypatch) == 1  # as after a run
        assert record.read_bytes() == kept
        record.unlink()
        text = reproduce(complete, "small")  # DVC's run-cache has the outputs
        for stage in ("train", "eigenspectrum"):
            assert re.search(rf"^{stage}@naive-1: \d+\.\d s +\(", text, re.MULTILINE)  # and not "restored"
        again, before = json.loads(record.read_bytes()), json.loads(kept)
        assert {**again, "seconds": 0} == {**before, "seconds": 0}
    finally:
        lock.write_bytes(locked)
        if not record.exists():
            record.write_bytes(kept)


def test_metrics_that_dvc_has_not_recorded_are_not_taken(complete: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where another commit has been checked out, with its dvc.lock and not with its outputs."""
    record = complete.folder / "results/small/runs/naive-1.json"
    kept = record.read_bytes()
    record.unlink()
    monkeypatch.chdir(complete.folder)
    try:
        for name in ("1.json", "1.eigenspectrum.json"):
            output = complete.folder / "scratch/reproduce/small/metrics/runs/naive" / name
            whole = output.read_bytes()
            output.unlink()  # it may share its bytes with DVC's cache
            output.write_bytes(whole + b"\n")
            assert taken(complete, monkeypatch) == 0
            output.write_bytes(whole)
    finally:
        record.write_bytes(kept)


def test_the_clone_is_left_alone_while_stages_run_in_it(complete: Clone) -> None:
    record = complete.folder / "results/small/runs/naive-1.json"
    kept = record.read_bytes()
    record.unlink()
    try:
        with FileLock(complete.folder / "scratch/reproduce/small/.dvc/tmp/side-by-side.lock"):
            text = one_line(reproduce(complete, "small", status=2))
        assert "still at work in scratch/reproduce/small; wait for it" in text
    finally:
        record.write_bytes(kept)


def change(clone: Clone, key: str, old: str, new: str) -> None:
    """Change a benchmark in a project, and in its workspace, where only the plans are made anew."""
    workspace = Clone(clone.folder / "scratch/reproduce/small")
    clone.edit("benchmarks.yaml", f"{key}: {old}\n", f"{key}: {new}\n")
    clone.commit(new)
    workspace.edit("benchmarks.yaml", f"{key.strip()}: {old}\n", f"{key.strip()}: {new}\n")
    workspace.run("dvc", "repro", "plan")


def test_outputs_of_an_earlier_plan_are_not_taken_for_those_of_the_new_one(
    complete: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an interrupted call leaves: the new plan, beside the checkpoints and metrics of the old one."""
    change(complete, "      lr", "0.2", "0.3")
    try:
        assert (complete.folder / "scratch/reproduce/small/metrics/runs/naive/1.json").exists()
        assert taken(complete, monkeypatch) == 0
        assert list(missing(complete, monkeypatch)) == [("naive", 1)]
    finally:
        change(complete, "      lr", "0.3", "0.2")
    assert not missing(complete, monkeypatch)


def test_outputs_on_other_data_are_not_taken_for_those_of_the_new_plan(
    complete: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan of a run names no data: a new plan of those, beside the tasks and metrics of the old one."""
    change(complete, "    degrees", "30.0", "31.0")
    try:
        assert len(missing(complete, monkeypatch)) == 2
        assert taken(complete, monkeypatch) == 0
    finally:
        change(complete, "    degrees", "31.0", "30.0")
    assert not missing(complete, monkeypatch)


def test_an_eigenspectrum_of_other_parameters_or_checkpoints_is_not_taken(
    complete: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an interrupted call leaves where the training is new and the eigenspectrum is that of before."""
    workspace = Clone(complete.folder / "scratch/reproduce/small")
    record = complete.folder / "results/small/runs/naive-1.json"
    kept = record.read_bytes()
    lock = workspace.folder / "dvc.lock"
    whole = lock.read_text(encoding="utf-8")
    head, name, rest = whole.partition("  eigenspectrum@naive-1:\n")
    entry, following, tail = rest.partition("\n  eigenspectrum@")
    assert name and following
    checkpoints = entry.index("md5: ", entry.index("path: models/naive/1\n")) + len("md5: ")
    others = {
        "parameters": entry.replace("tolerance: 0.001", "tolerance: 0.01"),
        "checkpoints": entry[:checkpoints] + "0" * 32 + entry[checkpoints + 32 :],
    }
    record.unlink()
    try:
        for what, other in others.items():
            assert other != entry, what
            lock.write_text(head + name + other + following + tail, encoding="utf-8")
            assert taken(complete, monkeypatch) == 0, what
        lock.write_text(whole, encoding="utf-8")
        assert taken(complete, monkeypatch) == 1
        assert record.read_bytes() == kept
    finally:
        lock.write_text(whole, encoding="utf-8")
        record.write_bytes(kept)


def test_where_all_runs_fail_results_and_document_stay(complete: Clone) -> None:
    """And are renewed by --report. A stand-in for the runs ends with their status."""
    record = complete.folder / "results/small/runs/tag-1.json"
    document, table = complete.folder / "docs/reproductions.md", complete.folder / "results/small/report.md"
    texts = [path.read_bytes() for path in (document, table)]
    kept = record.read_bytes()
    workspace = complete.folder / "scratch/reproduce/small"
    aside = workspace.with_name("aside")
    workspace.rename(aside)
    record.unlink()
    complete.edit("docs/reproductions.md", "two tasks of digits", "mine")
    mine = document.read_bytes()
    code = (
        "import pipeline.experiments.command as command; command.run = lambda *_: 1; "
        "from pipeline.commands.app import main; main(['reproduce', 'small'])"
    )
    try:
        told = complete.run(sys.executable, "-c", code, status=2)
        assert "small: no run was added, see above" in one_line(told)
        assert [path.read_bytes() for path in (document, table)] == [mine, texts[1]]
        assert "1 of 2 runs" in reproduce(complete, "small", "--report")
        assert document.read_bytes() not in (mine, texts[0])
    finally:
        record.write_bytes(kept)
        shutil.rmtree(workspace, ignore_errors=True)
        aside.rename(workspace)
        reproduce(complete, "small", "--report")
    assert [path.read_bytes() for path in (document, table)] == texts


def test_what_an_interrupted_call_recorded_is_told_by_the_next_one_though_it_adds_nothing(complete: Clone) -> None:
    document, table = complete.folder / "docs/reproductions.md", complete.folder / "results/small/report.md"
    texts = [path.read_bytes() for path in (document, table)]
    first, record = (complete.folder / f"results/small/runs/{method}-1.json" for method in ("naive", "tag"))
    kept, held = record.read_bytes(), first.read_bytes()
    first.unlink()
    reproduce(complete, "small", "--report")  # as before the interrupted call, which recorded naive
    first.write_bytes(held)
    record.unlink()
    code = (
        "import pipeline.experiments.command as command; command._run = lambda *_: 1; "
        "from pipeline.commands.app import main; main(['reproduce', 'small'])"
    )
    try:
        assert "small: some runs failed" in complete.run(sys.executable, "-c", code, status=2)
        assert "| naive | 1 |" in document.read_text(encoding="utf-8")
        assert "| naive | both | 1 of 1 |" in table.read_text(encoding="utf-8")
        assert "small: no run was added" in one_line(complete.run(sys.executable, "-c", code, status=2))
    finally:
        record.write_bytes(kept)
        reproduce(complete, "small", "--report")
    assert [path.read_bytes() for path in (document, table)] == texts


def test_runs_go_to_the_workers_of_a_scheduler(project: Clone, tmp_path: Path) -> None:
    project.edit("experiments.yaml", "seeds: [1]", "seeds: [1, 2]")
    project.commit("another seed")
    with cluster(tmp_path / "dask", 1) as dask:
        text = reproduce(project, "small", "--methods", "naive", "--seeds", "2", "--scheduler", dask.address)
    assert "train@naive-2" in text
    assert "of 4 runs; results/small/report.md" in text
    record = json.loads((project.folder / "results/small/runs/naive-2.json").read_text(encoding="utf-8"))
    assert len(record["spectrum"]["tasks"]) == 2


def test_mistakes_are_lines(project: Clone) -> None:
    assert "experiments.yaml has no 'smal'; did you mean 'small'" in one_line(reproduce(project, "smal", status=2))
    assert "--methods er: not in this experiment" in one_line(reproduce(project, "small", "--methods", "er", status=2))
    assert "--seeds 'x': must be a whole number" in one_line(reproduce(project, "small", "--seeds", "x", status=2))
    assert "--seeds 7: not in this experiment; it has 1" in one_line(
        reproduce(project, "small", "--seeds", "1,7", status=2)
    )
    line = one_line(reproduce(project, "small", "--methods", "tag", "--seeds", "7", status=2))
    assert "--seeds 7: not in this experiment for tag; it has 1" in line
    for option, value in (("--from", "x"), ("--methods", "zzz"), ("--seeds", "7"), ("--scheduler", "x")):
        for more in ((), ("--report",)):
            line = one_line(reproduce(project, option, value, *more, status=2))
            assert line.startswith(f"reproduce: {option}: of which experiment?")
    record = project.folder / "results/small/runs/naive-1.json"
    kept = record.read_bytes()
    record.write_bytes(kept[:100])
    assert "naive-1.json: damaged" in one_line(reproduce(project, status=2))
    record.write_bytes(kept)
