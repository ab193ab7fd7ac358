from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import DataPlan
from pipeline.config.data import Folder, PermutedStream, PublicDataset, SequenceStream, SplitStream
from pipeline.datasets.arrays import Split, sha256_of_arrays
from pipeline.datasets.raw import read_raw
from pipeline.datasets.raw_writer import write_raw
from pipeline.datasets.sources import fetch
from pipeline.streams import writer as task_writer
from pipeline.streams.reader import Tasks
from pipeline.streams.writer import held_out, write_tasks
from pipeline.support.errors import UserError


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
    out = held_out(raw["train"][1], 0.25, 0)
    assert 0.2 < out.mean() < 0.3
    assert np.array_equal(tasks.split(0, "test")[1], raw["train"][1][out])
    assert np.array_equal(tasks.split(0, "train")[1], raw["train"][1][~out])
    assert {image.tobytes() for image in train} | {image.tobytes() for image in test} == {
        image.tobytes() for image in raw["train"][0]
    }


def test_the_held_out_share_is_the_same_in_each_class() -> None:
    labels = np.repeat([0, 1, 2], [100, 40, 3])
    mask = held_out(labels, 0.2, seed=1)
    assert np.bincount(labels[mask]).tolist() == [20, 8, 1]
    assert np.array_equal(mask, held_out(labels, 0.2, seed=1))
    assert not np.array_equal(mask, held_out(labels, 0.2, seed=2))


def test_what_is_held_out_hangs_on_the_seed_of_the_stream(tmp_path: Path) -> None:
    judged = []
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        stream = SplitStream(name="split", tasks=2, seed=seed)
        data = DataPlan(datasets=["digits"], stream=stream, evaluation="validation", validation_fraction=0.25)
        write_tasks(tmp_path / str(seed), data, [{"train": fetch("digits")["train"]}])
        judged.append(Tasks.open(tmp_path / str(seed)).split(0, "test")[0])
    assert judged[0].shape == judged[1].shape
    assert not np.array_equal(judged[0], judged[1])


def test_a_class_is_never_held_out_whole() -> None:
    labels = np.repeat([4, 7], [2, 10])
    assert np.bincount(labels[held_out(labels, 0.9, seed=1)]).tolist() == [0, 0, 0, 0, 1, 0, 0, 9]
    assert held_out(np.array([4, 4, 8]), 0.9, seed=1)[2] == 0


@pytest.mark.parametrize("last", [3, None])
def test_a_class_of_one_image_is_refused_for_validation_where_a_task_shows_it(tmp_path: Path, last: int | None) -> None:
    images, labels = np.zeros((13, 8, 8), np.uint8), np.repeat([0, 1, 2, 3, 4, 5], [2, 3, 2, 3, 2, 1])
    stream = SplitStream(name="split", tasks=2, last_class=last)
    data = DataPlan(datasets=["digits"], stream=stream, evaluation="validation", validation_fraction=0.5)
    if last is not None:
        write_tasks(tmp_path, data, [{"train": (images, labels)}])
        assert [Tasks.open(tmp_path).count(task, "test") for task in range(2)] == [1 + 2, 1 + 2]
        return
    told = r"benchmarks\.yaml: validation_fraction: class 5 has one training image only; add images, or train without"
    with pytest.raises(UserError, match=told):
        write_tasks(tmp_path, data, [{"train": (images, labels)}])
    assert not list(tmp_path.iterdir())


def test_examples_are_counted_without_opening_them(written: Path) -> None:
    tasks = Tasks.open(written)
    held = {
        (task, split): len(tasks.split(task, split)[1]) for task in range(len(tasks)) for split in ("train", "test")
    }
    for path in written.glob("*/*.npy"):
        path.unlink()
    assert {place: tasks.count(*place) for place in held} == held


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


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_that_is_no_class_is_refused_though_its_checksum_is_right(written: Path, label: int) -> None:
    path, manifest = written / "task-01" / "test_labels.npy", written / "manifest.json"
    labels = np.load(path)
    labels[3] = label
    np.save(path, labels)
    held = json.loads(manifest.read_text(encoding="utf-8"))
    held["tasks"][0]["test"]["sha256"] = sha256_of_arrays(np.load(written / "task-01" / "test_images.npy"), labels)
    manifest.write_text(json.dumps(held), encoding="utf-8")
    with pytest.raises(UserError, match=r"task-01/test_labels\.npy: has labels outside 0\.\.9; delete data/tasks"):
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


class Counted:
    """Images that note how many are asked for at once."""

    def __init__(self, images: np.ndarray) -> None:
        self.images, self.asked = images, 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        self.asked = max(self.asked, len(numbers))
        chosen: np.ndarray = self.images[numbers]
        return chosen


@pytest.mark.parametrize("fraction", [None, 0.25])
def test_only_a_chunk_of_images_is_in_memory_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fraction: float | None
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "chunks").mkdir()
    splits = fetch("digits")
    write_tasks(tmp_path / "whole", plan(fraction), [splits])
    counted = {split: (Counted(images), labels) for split, (images, labels) in splits.items()}
    monkeypatch.setattr(task_writer, "CHUNK", 64 * 100)
    write_tasks(tmp_path / "chunks", plan(fraction), [counted])
    assert counted["train"][0].asked == 100
    assert counted["test"][0].asked == (100 if fraction is None else 0)
    for path in (tmp_path / "whole").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "chunks" / path.relative_to(tmp_path / "whole")).read_bytes()


def test_the_first_images_are_those_of_each_class_in_turn(tmp_path: Path) -> None:
    images = np.arange(30, dtype=np.uint8)[:, None, None].repeat(2, axis=2)
    labels = np.repeat([0, 1, 2, 3], [1, 20, 2, 7])
    splits = dict.fromkeys(("train", "test"), (images, labels))
    split_in_two = SplitStream(name="split", tasks=2)
    write_tasks(tmp_path, DataPlan(datasets=["digits"], stream=split_in_two, evaluation="test"), [splits])
    tasks = Tasks.open(tmp_path)
    assert tasks.names == ["classes 0, 1", "classes 2, 3"]
    assert tasks.first_images()[:, :, 0, 0].tolist() == [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [21, 23, 22, 24, 25, 26, 27, 28, 29, 0],  # nine images, and a black one
    ]
    (tmp_path / "first_images.npy").write_bytes(b"")
    with pytest.raises(UserError, match=r"first_images\.npy: truncated or damaged .*dvc repro split"):
        tasks.first_images()


def split_digits(folder: Path, **stream: object) -> Path:
    """Six classes of the digits, 2 to 7, split."""
    made = SplitStream.model_validate({"name": "split", "first_class": 2, "last_class": 7, **stream})
    folder.mkdir()
    write_tasks(folder, DataPlan(datasets=["digits"], stream=made, evaluation="test"), [fetch("digits")])
    return folder


def test_a_run_draws_its_tasks_from_its_seed_alone(tmp_path: Path) -> None:
    folder = split_digits(tmp_path / "a", tasks=3, order="run")
    first, other = Tasks.open(folder, 1), Tasks.open(folder, 2)
    assert len(first) == len(first.classes) == len(first.names) == 3
    for tasks in (first, other):
        assert all(classes == sorted(classes) for classes in tasks.classes)
        assert sorted(label for classes in tasks.classes for label in classes) == list(range(2, 8))
    assert first.classes == [[6, 7], [3, 5], [2, 4]]  # recorded in results: no change may draw them otherwise
    assert first.names[0] == "classes 6, 7"
    assert first.classes != other.classes
    again = split_digits(tmp_path / "b", tasks=3, order="run", seed=7)  # of the stream, not of the run
    assert Tasks.open(again, 1).classes == first.classes


def test_the_tasks_of_a_run_are_what_a_split_of_their_classes_is(tmp_path: Path) -> None:
    """Bit for bit, labels and first images too: here against the labelled split that one of the seeds draws."""
    labelled = Tasks.open(split_digits(tmp_path / "labelled", tasks=3))
    folder = split_digits(tmp_path / "run", tasks=3, order="run")
    seed = next(seed for seed in range(1000) if Tasks.open(folder, seed).classes == labelled.classes)
    drawn = Tasks.open(folder, seed)
    assert drawn.image_shape == labelled.image_shape
    for task in range(3):
        for split in ("train", "test"):
            assert drawn.count(task, split) == labelled.count(task, split)
            for mine, theirs in zip(drawn.split(task, split), labelled.split(task, split), strict=True):
                assert mine.dtype == theirs.dtype
                assert np.array_equal(mine, theirs)
    assert np.array_equal(drawn.first_images(), labelled.first_images())


def test_first_images_of_a_run_are_padded_like_others(tmp_path: Path) -> None:
    images = np.arange(1, 31, dtype=np.uint8)[:, None, None].repeat(2, axis=2)
    labels = np.repeat([0, 1, 2, 3], [1, 20, 2, 7])
    splits = dict.fromkeys(("train", "test"), (images, labels))
    stream = SplitStream(name="split", tasks=2, order="run")
    write_tasks(tmp_path, DataPlan(datasets=["digits"], stream=stream, evaluation="test"), [splits])
    seed = next(seed for seed in range(1000) if Tasks.open(tmp_path, seed).classes == [[0, 1], [2, 3]])
    assert Tasks.open(tmp_path, seed).first_images()[:, :, 0, 0].tolist() == [
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        [22, 24, 23, 25, 26, 27, 28, 29, 30, 0],
    ]


def test_tasks_that_every_run_draws_are_not_opened_without_a_seed(tmp_path: Path) -> None:
    folder = split_digits(tmp_path / "run", tasks=3, order="run")
    with pytest.raises(ValueError, match="open them with the seed of a run"):
        Tasks.open(folder)
    path = folder / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"tasks": 3', '"tasks": 4'), encoding="utf-8")
    with pytest.raises(UserError, match="6 classes cannot be split evenly into 4 tasks"):
        Tasks.open(folder, 1)


def test_a_damaged_class_is_named_whatever_task_it_belongs_to(tmp_path: Path) -> None:
    folder = split_digits(tmp_path / "run", tasks=3, order="run")
    (folder / "task-02" / "test_images.npy").unlink()  # of class 3, which seed 1 has in its second task
    with pytest.raises(UserError, match=r"task-02/test_images\.npy: missing"):
        Tasks.open(folder, 1).split(1, "test")


def test_a_seed_changes_nothing_where_the_order_is_fixed_and_the_manifest_keeps_its_keys(tmp_path: Path) -> None:
    folder = tmp_path / "all"
    folder.mkdir()
    stream = SplitStream(name="split", tasks=2, order="seeded")
    write_tasks(folder, DataPlan(datasets=["digits"], stream=stream, evaluation="test"), [fetch("digits")])
    plain, seeded = Tasks.open(folder), Tasks.open(folder, 5)
    assert seeded == plain
    assert plain.drawn is None
    assert plain.manifest["plan"]["stream"] == {"name": "split", "tasks": 2, "order": "seeded", "seed": 0}


def test_a_sequence_of_datasets_becomes_tasks_with_their_own_outputs(tmp_path: Path) -> None:
    stream = SequenceStream(name="sequence", height=6, width=5, colour="rgb")
    datasets: list[PublicDataset | Folder] = ["digits", Folder(path="birds", height=4, width=4)]
    birds = (np.zeros((4, 4, 4, 3), np.uint8), np.array([0, 0, 1, 1]))
    raw: list[dict[str, Split]] = [dict(fetch("digits")), {"train": birds, "test": birds}]
    write_tasks(tmp_path, DataPlan(datasets=datasets, stream=stream, evaluation="test"), raw)
    tasks = Tasks.open(tmp_path)
    assert tasks.image_shape == (6, 5, 3)
    assert tasks.classes == [list(range(10)), [10, 11]]
    assert tasks.names == ["digits", "birds"]
    assert tasks.split(1, "test")[1].tolist() == [0, 0, 1, 1]
    assert tasks.split(0, "train")[0].shape == (1352, 6, 5, 3)
