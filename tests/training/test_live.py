"""The table in which a run can be watched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.analysis.metrics import average_accuracy_course
from pipeline.models import TaskModel
from pipeline.streams.reader import Tasks
from pipeline.support.scratch import Scratch
from pipeline.training.live import Live
from pipeline.training.loop import train
from pipeline.training.recorder import Measurements, Recorder
from tests.conftest import rotated_digits, run_plan

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Tasks:
    return rotated_digits(tmp_path_factory.mktemp("three"), 3)


def table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t")


def agrees(live: pd.DataFrame, record: Measurements) -> None:
    """Whether a table of three tasks holds what the record holds."""
    assert list(live) == ["task", "average_accuracy", "task_1", "task_2", "task_3", "train_loss", "seconds"]
    assert live["task"].tolist() == [1, 2, 3]
    assert np.allclose(live["average_accuracy"], average_accuracy_course(record.accuracy), atol=1e-6)
    seen = np.tril(np.ones((3, 3))) == 1
    accuracy = live[["task_1", "task_2", "task_3"]].to_numpy()
    assert np.allclose(accuracy[seen], np.array(record.accuracy)[1:][seen], atol=1e-6)
    assert np.isnan(accuracy[~seen]).all()  # of a task that is not learnt yet
    assert np.allclose(live["train_loss"], [np.mean(losses) for losses in record.train_loss], rtol=0.05)
    assert (live["seconds"] > 0).all()


def test_a_row_is_there_as_soon_as_its_task_is_learnt(three: Tasks, tmp_path: Path) -> None:
    live, rows = Live(tmp_path / "logs/live/naive-1.tsv"), []

    def note(recorder: Recorder) -> None:
        live.write(recorder)
        rows.append(len(table(live.path)))

    agrees_with = train(run_plan(), three, 1, CPU, evaluated=note)
    assert rows == [0, 1, 2, 3]
    agrees(table(live.path), agrees_with)
    assert [path.name for path in live.path.parent.iterdir()] == ["naive-1.tsv"]


@pytest.mark.parametrize("task", [0, 1, 2])
def test_a_run_that_resumes_has_every_task_once(
    three: Tasks, tmp_path: Path, task: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after a task was learnt, before it was evaluated; and once more at the same place of the resumed run."""
    monkeypatch.setenv("TAG_SAVE_SECONDS", "0")
    whole = train(run_plan(), three, 1, CPU)
    live = Live(tmp_path / "naive-1.tsv")

    def stop(done: int, model: TaskModel) -> None:
        if done == task:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), Scratch(tmp_path / "scratch", "key", "naive-1") as scratch:
            train(run_plan(), three, 1, CPU, after_task=stop, scratch=scratch, evaluated=live.write)
        assert table(live.path)["task"].tolist() == list(range(1, task + 1))
    before = table(live.path)["seconds"].tolist()
    # A row of a task that the kept state does not know, as after a kill between the two writings; it must go.
    live.path.write_text(live.path.read_text(encoding="utf-8") + "9\t" * 7 + "9\n", encoding="utf-8")
    with Scratch(tmp_path / "scratch", "key", "naive-1") as scratch:
        record = train(run_plan(), three, 1, CPU, scratch=scratch, evaluated=live.write)
    assert record == whole
    agrees(table(live.path), whole)
    assert table(live.path)["seconds"].tolist()[:task] == before  # measured once


def test_a_run_goes_on_where_its_table_cannot_be_written(three: Tasks, tmp_path: Path) -> None:
    """A file where the folder should be stands in for a full or read-only disk."""
    (tmp_path / "live").touch()
    live = Live(tmp_path / "live/naive-1.tsv")
    assert train(run_plan(), three, 1, CPU, evaluated=live.write) == train(run_plan(), three, 1, CPU)
    assert live.failure
    (tmp_path / "live").unlink()
    train(run_plan(), three, 1, CPU, evaluated=live.write)
    assert vars(live)["failure"] is None
    assert len(table(live.path)) == 3
