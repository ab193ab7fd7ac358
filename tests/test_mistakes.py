"""Mistakes and a failing disk: one line, status 2, nothing half-written."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from tests.clones import Clone, everything, one_line
from tests.conftest import ROOT


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


def test_a_network_whose_curvature_overflows_is_named(clone: Clone) -> None:
    """Its weights are finite, so that the checkpoint is read."""
    path = clone.folder / "models/naive/1/task-01.safetensors"
    weights = {name: 1e25 * values for name, values in load_file(path).items()}
    path.unlink()  # it may be a link into the cache
    save_file(weights, path)
    assert "eigenspectrum: naive-1: a product with the matrix is not finite" in one_line(
        clone.stage("eigenspectrum", "naive", "1", status=2)
    )


def test_without_a_pipeline_nothing_is_up_to_date(clone: Clone) -> None:
    for content, told in ((None, "dvc.yaml: missing; restore it"), ("", "DVC: ")):
        (clone.folder / "dvc.yaml").unlink()
        if content is not None:
            (clone.folder / "dvc.yaml").write_text(content, encoding="utf-8")
        else:
            assert told in one_line(clone.run("python", "-m", "pipeline", "repro", "--dry", status=2))
            (clone.folder / "dvc.yaml").touch()
    assert "nothing to do" in clone.run("python", "-m", "pipeline", "repro", "--dry")
    clone.run("git", "checkout", "dvc.yaml")
    (clone.folder / "params.yaml").unlink()
    assert "params.yaml: missing" in one_line(clone.run("python", "-m", "pipeline", "repro", "--dry", status=2))


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


def test_a_run_whose_table_cannot_be_written_ends_with_its_outputs_and_a_note(clone: Clone) -> None:
    wanted = everything(clone, "naive")
    shutil.rmtree(clone.folder / "models/naive")
    shutil.rmtree(clone.folder / "logs/live")
    (clone.folder / "logs/live").touch()
    assert "train: note: logs/live/naive-1.tsv: cannot be written: " in one_line(clone.stage("train", "naive", "1"))
    assert everything(clone, "naive") == wanted


@pytest.mark.parametrize("arguments", [(), ("naive",), ("naive", "one")])
def test_wrong_arguments_show_the_usage(arguments: tuple[str, ...]) -> None:
    assert "usage: " in one_line(Clone(ROOT).stage("train", *arguments, status=2))


@pytest.mark.parametrize(
    ("stage", "arguments", "told"),
    [
        ("plan", ("--chek",), "plan: unknown argument '--chek'; did you mean '--check'? allowed: --check, --help"),
        ("plan", ("--check", "x"), "plan: unknown argument 'x'"),
        ("download", ("--check",), "download: unknown argument '--check'"),
        ("split", ("x",), "split: unknown argument 'x'; allowed: --help"),
        ("summarize", ("-h",), "summarize: unknown argument '-h'"),
        ("figures", ("x",), "figures: unknown argument 'x'"),
    ],
)
def test_an_argument_that_a_stage_does_not_take_is_refused(
    stage: str, arguments: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    """In a folder without a project, where a stage that began would end with another line."""
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    (tmp_path / "pipeline").symlink_to(ROOT / "pipeline")
    assert one_line(Clone(tmp_path).stage(stage, *arguments, status=2)).startswith(told)


@pytest.mark.parametrize("stage", ["plan", "download", "split", "train", "eigenspectrum", "summarize", "figures"])
def test_help_of_a_stage_says_what_it_does_and_runs_nothing(stage: str, tmp_path: Path) -> None:
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    (tmp_path / "pipeline").symlink_to(ROOT / "pipeline")
    assert Clone(tmp_path).stage(stage, "--help").startswith(f"Stage `{stage}`: ")
    assert {path.name for path in tmp_path.iterdir()} == {"stages", "pipeline"}
