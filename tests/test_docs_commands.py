"""The commands of README.md and docs/tour.md print what the pages say.

A block of `sh` is run as it stands, by bash, in one clone after the other blocks; the block of `text` that follows it is what
it must print. A line `...` there stands for any lines, `...` within a line for anything. Blocks that install or activate are
replaced by a clone and this environment.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.clones import ENVIRONMENT, Clone
from tests.paths import ROOT

TOUR, README = ROOT / "docs" / "tour.md", ROOT / "README.md"


def blocks(page: Path) -> list[tuple[str, str | None]]:
    """The blocks of commands, each with the output shown below it, if any."""
    found = re.findall(r"^```(sh|text)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    shown: list[tuple[str, str | None]] = []
    for kind, text in found:
        if kind == "sh":
            shown.append((text, None))
        else:
            assert shown, "an output stands before any command"
            assert shown[-1][1] is None, "two outputs follow one command"
            shown[-1] = (shown[-1][0], text)
    return shown


def matches(shown: str, printed: str) -> bool:
    """Whether an output is as shown; blank lines at the end and blanks at the ends of lines do not count."""
    pattern = ""
    for line in shown.strip().splitlines():
        if line == "...":
            pattern += r"(?:.*\n)*"
        else:
            pattern += ".*".join(map(re.escape, line.rstrip().split("..."))) + r"\n"
    text = "".join(f"{line.rstrip()}\n" for line in printed.strip().splitlines())
    return re.fullmatch(pattern, text) is not None


def walk(commands: list[tuple[str, str | None]], folder: Path) -> None:
    """Run blocks in a new clone of the last commit."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], env=ENVIRONMENT, check=True)
    clone = Clone(folder)
    for command, shown in commands:
        printed = clone.run("bash", "-euc", command)
        assert shown is None or matches(shown, printed), f"{command}\nprinted\n{printed}\nand not\n{shown}"


def test_the_comparison_can_fail() -> None:
    assert matches("a\n...\nb ... d\n", "a\nx\ny\nb c d\n\n")
    assert matches("a\n...\nb\n", "a\nb")
    assert not matches("a\n...\nb\n", "a\nx\nc\n")
    assert not matches("0.65798", "0.65799")
    assert not matches("a", "a\nb")


def test_the_tour_begins_as_it_says(tmp_path: Path) -> None:
    install, first, *_ = blocks(TOUR)
    assert "git clone" in install[0] and "pip install -c constraints.txt" in install[0]
    assert first[1]
    walk([first], tmp_path / "clone")


@pytest.mark.slow
def test_the_tour_prints_what_it_says(tmp_path: Path) -> None:
    commands = blocks(TOUR)[1:]
    assert sum(shown is not None for _, shown in commands) >= 6
    walk(commands, tmp_path / "clone")


@pytest.mark.slow
def test_the_readme_prints_what_it_says(tmp_path: Path) -> None:
    install, activate, *others = blocks(README)
    assert install[0] == "make repro\n"
    first, rest = activate[0].split("\n", 1)
    assert first == "source .venv/bin/activate"
    assert sum(shown is not None for _, shown in others) >= 2
    walk([("python -m pipeline repro\n", install[1]), (rest, activate[1]), *others], tmp_path / "clone")


def test_the_readme_is_short_and_its_commands_are_known() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    for command, _ in blocks(README):
        assert command.split()[0] in ("make", "source", "dvc", "git", "tag-pipeline"), command


@pytest.mark.parametrize("page", [README, TOUR])
def test_going_back_takes_back_what_a_run_writes_and_nothing_else(
    tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"git checkout \.(?!\w)", text)
    found = re.search(
        r"(git checkout [^\n&]+)(?:\n| && )(git clean [^\n&]+?)(?:\n| && )rm -rf metrics/runs(?:\n| && )dvc checkout",
        text,
    )
    assert found
    monkeypatch.setenv(
        "GIT_DIR", str(tmp_path / "of a hook")
    )  # as in `git rebase --exec`: it is not for these commands
    written = ["params.yaml", "dvc.lock", "metrics/methods/naive.json"]
    own = ["methods.yaml", "benchmarks.yaml", "pipeline/strategies/naive.py"]
    for name in written + own:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("as committed", encoding="utf-8")
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "All"]):
        subprocess.run(["git", *command], cwd=tmp_path, env=ENVIRONMENT, check=True)
    new = ["pipeline/strategies/mine.py", "my-images/owl/0.png", "metrics/notes.txt"]
    for name in [*written, "metrics/methods/mine.json", *own, *new]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("changed", encoding="utf-8")
    subprocess.run(["bash", "-euc", f"{found[1]} && {found[2]}"], cwd=tmp_path, env=ENVIRONMENT, check=True)
    assert not (tmp_path / "of a hook").exists()
    assert {(tmp_path / name).read_text(encoding="utf-8") for name in written} == {"as committed"}
    assert not (tmp_path / "metrics/methods/mine.json").exists()
    assert {(tmp_path / name).read_text(encoding="utf-8") for name in own + new} == {"changed"}
