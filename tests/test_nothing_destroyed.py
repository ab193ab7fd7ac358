"""Commands keep off what they did not make, and end in a line where they are asked wrongly."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import read_run_plan
from pipeline.config.arguments import jobs, name, seed, seeds
from pipeline.report import record
from pipeline.search.record import refuse_another_search
from pipeline.search.space import Point
from pipeline.support.errors import UserError, run_stage
from pipeline.support.files import marked, whole_file, whole_files, whole_folder
from tests.conftest import ROOT


def test_a_record_takes_no_name_of_an_experiment_or_of_the_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for taken in ("stable-sgd-1-rotated", "tuning"):
        with pytest.raises(UserError, match="choose another"):
            record.free_place(taken)


def test_a_record_takes_its_own_folder_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results/mine"
    folder.mkdir(parents=True)
    assert record.free_place("mine") == Path("results/mine")
    (folder / "machine.json").touch()
    (folder / "cost.png").touch()
    assert record.free_place("mine") == Path("results/mine")
    (folder / "notes.md").touch()
    with pytest.raises(UserError, match=r"holds notes\.md"):
        record.free_place("mine")


def test_a_search_is_written_over_one_that_holds_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "naive.csv"

    def refuse(points: list[Point], seeds: list[int]) -> None:
        refuse_another_search(path, points[0], points, seeds)

    points: list[Point] = [{"lr": 0.1}, {"lr": 1}]
    refuse(points, [7])
    for ended, word in (("", ""), (",ended", ",finished")):  # as a search writes it, and as one that prunes does
        head = f"lr,seed,average_accuracy,forgetting,learning_accuracy{ended}\n"
        path.write_text(f"{head}0.1,7,0.5,0.1,0.6{word}\n1.0,7,,,{word}\n")
        refuse(points, [7, 8])
        others: list[list[Point]] = [[{"lr": 0.1}], [{"lr": 0.1, "b": 5}], [{"b": 0.1}]]
        for other in others:
            with pytest.raises(UserError, match="holds another search"):
                refuse(other, [7])
    path.write_text("notes\n")
    with pytest.raises(UserError, match="holds another search"):
        refuse(points, [7])


@pytest.mark.parametrize("word", ["../x", "/x", "x/y", "", "X", "a" * 81, "²", "a\nb"])
def test_no_name_leads_out_of_its_folder(word: str) -> None:
    with pytest.raises(UserError, match="use lower-case letters"):
        name(word, "NAME")


@pytest.mark.parametrize("word", ["²", "-1", "1_0", " 1", "9" * 5000, str(2**63), "", "1.0"])
def test_a_seed_is_decimal_digits_in_range(word: str) -> None:
    with pytest.raises(UserError, match="must be a whole number from 0"):
        seed(word, "--seeds")
    assert seeds("3,1", "--seeds") == [3, 1]


@pytest.mark.parametrize("word", ["0", "1025", "x", "²"])
def test_a_command_refuses_a_number_of_jobs_in_one_line(word: str) -> None:
    with pytest.raises(UserError, match="must be a whole number from 1 to 1024"):
        jobs(word, "--jobs")


def test_files_take_their_places_together(tmp_path: Path) -> None:
    for old in ("kept.md", "gone.png", "new.csv"):
        (tmp_path / old).write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError), whole_files(tmp_path, ["gone.png"]) as folder:
        (folder / "new.csv").write_text("new", encoding="utf-8")
        raise RuntimeError
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("kept.md", "gone.png", "new.csv"), "old"
    )
    with whole_files(tmp_path, ["gone.png"]) as folder:
        (folder / "new.csv").write_text("new", encoding="utf-8")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"kept.md": "old", "new.csv": "new"}


def test_no_output_takes_the_place_of_another_kind_of_thing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    for taken in ("file", "link"):
        with pytest.raises(NotADirectoryError), whole_folder(tmp_path / taken):
            pass
    with pytest.raises(IsADirectoryError), whole_file(tmp_path / "folder"):
        pass


def test_a_document_without_its_marks_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("a <b> c </b> d", encoding="utf-8")
    assert marked(path, "<b>", "</b>", "new") == "a <b>\nnew\n</b> d"
    for text in ("a </b> d", "a <b> d", "</b> <b>"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match="are not there"):
            marked(path, "<b>", "</b>", "new")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("name: sgd", "name: tag", "optimizer.momentum: unknown key"),
        ("name: naive", "name: er", "strategy.memory_per_class: missing"),
        ("name: naive", "name: naive\n  ewc_lambda: 1.0", "strategy.ewc_lambda: unknown key"),
        ("method: naive", "method: tag", "has a file of its own"),
        ("lr_decay: 1.0", "lr_decay: 0.5", "regime.min_lr"),
    ],
)
def test_a_plan_that_no_configuration_gives_is_refused(tmp_path: Path, old: str, new: str, told: str) -> None:
    from ruamel.yaml import YAML

    from tests.conftest import run_plan

    path = tmp_path / "naive.yaml"
    YAML().dump(run_plan().model_dump(exclude_none=True), path)
    text = path.read_text(encoding="utf-8")
    assert read_run_plan(path) == run_plan()
    head, _, rest = text.partition(old)
    path.write_text(head + new + rest, encoding="utf-8")
    with pytest.raises(UserError, match=told):
        read_run_plan(path)


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing(tmp_path: Path, closed: str) -> None:
    code = (
        "from pathlib import Path; from pipeline.support.errors import run_stage; import tqdm\n"
        "def main():\n"
        "    file = Path('out').open('w')\n"
        "    list(tqdm.tqdm(range(3))); print('told')\n"
        "    file.write('mine')\n"
        "run_stage('x', main)"
    )
    command = f'{sys.executable} -c "$1" {closed}'
    shell = [shutil.which("sh") or "sh", "-c", command, "sh", code]
    done = subprocess.run(shell, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


def test_memory_that_does_not_suffice_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise MemoryError("Unable to allocate 9 TiB")

    with pytest.raises(SystemExit) as ended:
        run_stage("train", fail)
    assert ended.value.code == 2
    assert "not enough memory (Unable to allocate 9 TiB)" in capsys.readouterr().err
