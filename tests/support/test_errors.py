from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.support.errors import DivergenceError, UserError, memory_ended, nearest, run_stage
from tests.paths import ROOT

#: Where nobody has switched off the buffer of the standard output.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def failing(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UserError("params.yaml: seeds: 1 stands twice"), "plan: params.yaml: seeds: 1 stands twice\n"),
        (UserError("two\nlines"), "plan: two lines\n"),
        (DivergenceError("the loss is nan"), "plan: the loss is nan\n"),
        (
            OSError(28, "No space left on device", "data/raw"),
            "data/raw: No space left on device; free some space there",
        ),
        (
            OSError(21, "Is a directory", "params.yaml"),
            "params.yaml: Is a directory; it must be a file: move",
        ),
        (OSError(2, "No such file", "README.md"), "README.md: No such file; restore it"),
        (UnicodeDecodeError("utf-8", b"abc\xff", 3, 4, "invalid"), r"(at b'abc\xff'); save it as UTF-8"),
        (OSError("3 requested and 1 written"), "3 requested and 1 written"),
        (RuntimeError("Could not determine home directory."), "plan: there is no home directory, for HOME is unset"),
        (
            RuntimeError("could not determine the home directory for '~/.cache/dvc', set an absolute HOME"),
            "set HOME to",
        ),
    ],
)
def test_what_a_person_can_fix_is_one_line_and_status_2(
    error: Exception, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_stage("plan", lambda: failing(error))
    assert caught.value.code == 2
    text = capsys.readouterr().err
    assert told in text
    assert text.count("\n") == 1


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_stage("plan", lambda: failing(ZeroDivisionError()))


def test_only_a_lack_of_memory_of_a_gpu_is_a_line() -> None:
    def fault() -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(torch.AcceleratorError):
        run_stage("train", fault)


def test_a_gpu_without_memory_is_told_as_such() -> None:
    assert memory_ended(RuntimeError("CUDA error: out of memory"))
    assert not memory_ended(RuntimeError("CUDA error: an illegal memory access was encountered"))


def test_ctrl_c_is_told_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        run_stage("train", interrupted)
    assert caught.value.code == 130
    assert capsys.readouterr().err.startswith("train: interrupted")


def test_nearest_names() -> None:
    assert nearest("rmsprob", ["rmsprop", "sgd"]) == "did you mean 'rmsprop'? allowed: rmsprop, sgd"
    assert nearest("zzz", ["rmsprop", "sgd"]) == "allowed: rmsprop, sgd"


@pytest.mark.parametrize("words", ["'word ' * 100_000, flush=True", "'word ' * 5000"], ids=["at once", "at the end"])
def test_a_reader_that_stops_reading_is_no_fault(words: str) -> None:
    code = (
        "import os, time; from pipeline.support.errors import run_stage; os.write(1, b'begun'); "
        f"run_stage('list', lambda: (time.sleep(1), print({words})))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=BUFFERED
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.read(5)
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_output_that_cannot_be_written_at_the_end_is_a_line() -> None:
    code = "from pipeline.support.errors import run_stage; run_stage('list', lambda: print('word ' * 5000))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=BUFFERED,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "list: cannot read or write: No space left on device; free some space there and run again\n"
