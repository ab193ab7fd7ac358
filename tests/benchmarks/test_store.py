from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.benchmarks.raw import read_raw, write_raw
from pipeline.benchmarks.sources import fetch
from pipeline.benchmarks.store import Tasks, held_out, write_tasks
from pipeline.config import DataPlan
from pipeline.config.schema import PermutedStream
from pipeline.errors import UserError


def plan(validation_fraction: float | None = None) -> DataPlan:
    return DataPlan(
        datasets=["digits"],
        stream=PermutedStream(name="permuted", tasks=2),
        evaluation="test" if validation_fraction is None else "validation",
        validation_fraction=validation_fraction,
    )


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_tasks(tmp_path, plan(), [fetch("digits")])
    return tmp_path


def test_raw_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    write_raw(tmp_path, ["digits"])
    (back,) = read_raw(tmp_path)
    for split, (images, labels) in fetch("digits").items():
        assert back[split][0].shape == images.shape
        some = np.array([7, 0, 3])
        assert np.array_equal(back[split][0][some], images[some])
        assert np.array_equal(back[split][1], labels)


def test_tasks_are_memory_mapped_uint8_with_labels_from_0(written: Path) -> None:
    tasks = Tasks.open(written)
    assert len(tasks) == 2
    assert tasks.image_shape == (8, 8)
    assert tasks.classes == [list(range(10))] * 2
    for task in range(2):
        for split, (raw, raw_labels) in fetch("digits").items():
            images, labels = tasks.split(task, split)
            assert isinstance(images, np.memmap)
            assert images.dtype == np.uint8
            assert np.array_equal(labels, raw_labels)
            assert np.array_equal(np.sort(images.reshape(len(raw), -1)), np.sort(raw.reshape(len(raw), -1)))


def test_validation_takes_from_the_training_images_and_leaves_the_test_images_alone(tmp_path: Path) -> None:
    raw = {"train": fetch("digits")["train"]}  # there is no test split to be read
    write_tasks(tmp_path, plan(0.25), [raw])
    tasks = Tasks.open(tmp_path)
    train, test = tasks.split(0, "train")[0], tasks.split(0, "test")[0]
    assert len(train) + len(test) == len(raw["train"][0])
    assert {image.tobytes() for image in train} | {image.tobytes() for image in test} == {
        image.tobytes() for image in raw["train"][0]
    }


def test_the_held_out_share_is_the_same_in_each_class() -> None:
    labels = np.repeat([0, 1, 2], [100, 40, 3])
    mask = held_out(labels, 0.2, seed=1)
    assert np.bincount(labels[mask]).tolist() == [20, 8, 1]
    assert np.array_equal(mask, held_out(labels, 0.2, seed=1))
    assert not np.array_equal(mask, held_out(labels, 0.2, seed=2))


def test_a_missing_task_file_is_named(written: Path) -> None:
    path = written / "task-02" / "train_images.npy"
    path.unlink()
    with pytest.raises(UserError, match=r"task-02/train_images\.npy: missing; delete data/tasks"):
        Tasks.open(written).split(1, "train")


@pytest.mark.parametrize("size", [0, 50, 3000])
def test_a_truncated_task_file_is_named(written: Path, size: int) -> None:
    path = written / "task-01" / "test_images.npy"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"task-01/test_images\.npy: truncated or damaged"):
        Tasks.open(written).split(0, "test")


def test_a_task_file_of_another_task_is_refused(written: Path) -> None:
    np.save(written / "task-01" / "test_images.npy", np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(UserError, match="its manifest says"):
        Tasks.open(written).split(0, "test")


def test_a_damaged_manifest_is_named(written: Path) -> None:
    (written / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"manifest\.json: damaged"):
        Tasks.open(written)
    (written / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest\.json: missing; delete data/tasks and run 'dvc repro split'"):
        Tasks.open(written)
