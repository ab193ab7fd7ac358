"""The one command line: errors in a line, what each command is given, completion."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from pipeline.commands import app as door
from pipeline.commands import values
from pipeline.support.errors import UserError
from tests.clones import ENVIRONMENT, one_line
from tests.paths import ROOT


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr with which wrong arguments end, with status 2."""
    with pytest.raises(SystemExit) as ended:
        door.main(arguments)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return one_line(err)


@pytest.mark.parametrize(
    "arguments", ["repro", "reproduce", "tune tag lr=0.1", "best", "compare", "record a", "gallery", "docs"]
)
def test_outside_a_project_every_command_says_where_to_run_it(
    arguments: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "run it in the project's folder" in told(capsys, *arguments.split())
    assert not list(tmp_path.iterdir())


def test_the_code_of_another_folder_is_not_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the environment of one clone is active in another."""
    (tmp_path / "pipeline").mkdir()
    for file in ("pipeline/__init__.py", "params.yaml"):
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/elsewhere/.venv/bin/tag-pipeline", "best"])
    assert f"best: this would run the code of {ROOT}, not of this folder" in told(capsys, "best")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "pipeline/__main__.py"), "best"])
    assert "would run the code" not in told(capsys, "best")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["reproduce", "a", "--from", ""], "reproduce: --from: is empty; give it a value or leave it out"),
        (["reproduce", ""], "reproduce: NAME: is empty; "),
        (["compare", "HEAD", ""], "compare: NEW: is empty; "),
        (["tun"], "tag-pipeline: unknown command 'tun'; did you mean 'tune'? allowed: best, compare, docs"),
        (["--verson"], "tag-pipeline: unknown option '--verson'; "),
        (["repro", "--keep-goin"], "repro: unknown option '--keep-goin'; did you mean '--keep-going'? allowed: "),
        (["repro", "-x"], "repro: unknown option '-x'; "),
        (["repro", "--jobs"], "repro: option '--jobs' requires an argument; see tag-pipeline repro --help"),
        (["repro", "--jobs", "0"], "repro: --jobs '0': must be a whole number from 1 to 1024"),
        (["repro", "-j", "two"], "repro: --jobs 'two': must be a whole number from 1 to 1024"),
        (["repro", "--dry=yes"], "repro: option '--dry' does not take a value; see tag-pipeline repro --help"),
        (["reproduce", "--seeds", "1,1"], "reproduce: --seeds 1,1: a seed stands twice; name each once"),
        (["best", "--evaluation", "tests"], "best: --evaluation 'tests': unknown; did you mean 'test'? allowed: "),
        (
            ["tune", "tag", "lr=1", "--sampler", "gird"],
            "tune: --sampler 'gird': unknown; did you mean 'grid'? allowed: ",
        ),
        (["tune", "tag", "lr=1", "--trials", "0"], "tune: --trials '0': must be a whole number from 1 to 100000"),
        (["tune", "tag", "lr=1", "--batch", "²"], "tune: --batch '²': must be a whole number from 1 to 100000"),
        (
            ["tune", "tag", "lr=1", "--sampler-seed", "-1"],
            "tune: --sampler-seed '-1': must be a whole number from 0 to",
        ),
        (["tune", "tag", "lr=1", "--batch", "0000001" + "1" * 400], "tune: --batch '0000001111"),
        (["tune", "tag", "lr=1", "--benchmark", ""], "tune: --benchmark: is empty; give it a value or leave it out"),
        (["repro", "--clone-from="], "repro: --clone-from: is empty; give it a value or leave it out"),
        (["record"], "record: missing argument 'NAME'; see tag-pipeline record --help"),
        (["record", "../x"], "record: NAME '../x': use lower-case letters, digits and single dashes"),
        (["gallery", "a", "b"], "gallery: got unexpected extra argument(s) (a b); see tag-pipeline gallery --help"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_command_and_what_is_allowed(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(capsys, *arguments).startswith(line)


#: Command line -> the module and function that do it, and what they are called with.
CALLS: dict[str, tuple[str, str, tuple[Any, ...]]] = {
    "repro": ("pipeline.parallel.command", "repro", ([], None, None, None, False, False, False, True)),
    "repro train tag -j 4 --gpu --dry --keep-going --no-run-cache --scheduler tcp://a:1 --clone-from u": (
        "pipeline.parallel.command", "repro", (["train", "tag"], 4, "tcp://a:1", "u", True, True, True, False)
    ),
    "reproduce": ("pipeline.experiments.command", "reproduce", (None, None, None, None, None, False, None)),
    "reproduce a --methods tag,er --seeds 1,2 --from f --report --jobs 3 --scheduler s": (
        "pipeline.experiments.command", "reproduce", ("a", 3, "tag,er", [1, 2], Path("f"), True, "s")
    ),
    "tune tag lr=1,2": (
        "pipeline.search.tuning", "tune", (["tag", "lr=1,2"], None, None, None, "grid", None, None, False, 4, None)
    ),
    "tune tag er b=1..2 --benchmark x --seeds 1,2 -j 3 --sampler tpe --trials 9 --sampler-seed 5 --prune --batch 2 "
    "--record r": (
        "pipeline.search.tuning", "tune", (["tag", "er", "b=1..2"], "x", [1, 2], 3, "tpe", 9, 5, True, 2, "r")
    ),
    "best": ("pipeline.search.best", "best", ([], "average_accuracy", "validation")),
    "best tag er --metric forgetting --evaluation test": (
        "pipeline.search.best", "best", (["tag", "er"], "forgetting", "test")
    ),
    "record mine": ("pipeline.report.record", "record", ("mine",)),
    "gallery": ("pipeline.report.gallery", "renew", ()),
    "docs": ("pipeline.config.tables", "renew", ()),
}  # fmt: skip


@pytest.mark.parametrize("line", CALLS)
def test_a_command_passes_on_what_it_is_given(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, function, expected = CALLS[line]
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(import_module(module), function, lambda *given: calls.append(given))
    door.main(line.split())
    assert calls == [expected]


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_without_a_command_all_are_listed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    door.main(arguments)
    text = capsys.readouterr().out
    parser: Any = typer.main.get_command(door.app)
    listed = {line.split()[0] for line in text.partition("Commands:\n")[2].splitlines()}
    assert listed == set(parser.commands)
    assert "..." not in text.partition("Commands:\n")[2]  # each is told in full


def test_what_a_command_raises_is_told_under_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(error: BaseException) -> Callable[..., None]:
        def fail(*given: object) -> None:
            raise error

        return fail

    from pipeline.report import gallery

    monkeypatch.setattr(gallery, "renew", failing(UserError("figures: no pictures")))
    assert told(capsys, "gallery") == "gallery: figures: no pictures\n"
    monkeypatch.setattr(gallery, "renew", failing(OSError(28, "No space left on device", "docs/images")))
    assert told(capsys, "gallery").startswith("gallery: cannot read or write docs/images: No space left on device")
    monkeypatch.setattr(gallery, "renew", failing(KeyboardInterrupt()))
    with pytest.raises(SystemExit) as ended:
        door.main(["gallery"])
    assert ended.value.code == 130
    assert one_line(capsys.readouterr().err).startswith("gallery: interrupted")
    monkeypatch.setattr(gallery, "renew", failing(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):  # a fault of ours keeps its traceback
        door.main(["gallery"])


def test_an_interrupt_and_a_status_while_arguments_are_parsed_are_not_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(text: str, what: str) -> int:
        raise KeyboardInterrupt

    from pipeline.config import arguments

    monkeypatch.setattr(arguments, "jobs", interrupted)
    with pytest.raises(SystemExit) as ended:
        door.main(["repro", "--jobs", "2"])
    assert ended.value.code == 130
    assert one_line(capsys.readouterr().err).startswith("repro: interrupted")

    def refused(text: str, what: str) -> int:
        raise typer.Exit(3)

    monkeypatch.setattr(arguments, "jobs", refused)
    with pytest.raises(SystemExit) as ended:
        door.main(["repro", "--jobs", "2"])
    assert ended.value.code == 3


def test_names_are_completed_from_the_files_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    complete = values.keys_of("methods.yaml")
    monkeypatch.chdir(ROOT)
    assert complete("tag-ad") == ["tag-adagrad", "tag-adam"]
    monkeypatch.chdir(tmp_path)
    assert complete("tag") == []
    Path("methods.yaml").write_text("a: [", encoding="utf-8")
    assert complete("a") == []
    assert values.words(["validation", "test"])("v") == ["validation"]


def test_a_shell_completes_commands_options_and_names() -> None:
    def completed(*words: str) -> list[str]:
        asked = {"_TAG_PIPELINE_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(["tag-pipeline", *words])}
        environment = {**ENVIRONMENT, **asked, "COMP_CWORD": str(len(words))}
        command = [sys.executable, "-m", "pipeline"]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert completed("repro") == ["repro", "reproduce"]
    assert completed("repro", "--k") == ["--keep-going"]
    assert completed("reproduce", "stable-sgd-1") == ["stable-sgd-1-rotated", "stable-sgd-1-permuted"]


def test_the_entry_point_is_the_same_command_line() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts == {"tag-pipeline": "pipeline.commands.app:main"}
