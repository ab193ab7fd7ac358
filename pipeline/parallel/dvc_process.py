"""A process that keeps DVC imported and runs one DVC command after another.

Starting `dvc` for every stage would import DVC each time, which takes about a second. `DvcProcess` starts such a
process, sends it requests and ends it. Run as a module, this file is that process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from pipeline.parallel.dvc import run_command
from pipeline.parallel.dvc_inside import ask_for_locks_often, change_inside, forget_staged_files, give_commands_to
from pipeline.parallel.forks import Forks

#: Number of lines that are kept of a failing command's output.
TAIL = 15
#: How the names of the stages begin that are run in forks.
FORKED = ("train@", "eigenspectrum@")
#: The variable that makes the commands of stages fail; see `DvcProcesses.run`.
RESTORE_ONLY = "TAG_RESTORE_ONLY"
#: Seconds for a stage and its DVC process to end by themselves before they are killed.
PATIENCE = 3.0


class StageFailedError(Exception):
    """A stage ended with a status other than 0, or could not be run.

    Attributes:
        stage: Name of the stage.
        tail: The last lines of its output, or the reason why it could not be run.
    """

    def __init__(self, stage: str, tail: str) -> None:
        super().__init__(stage, tail)
        self.stage, self.tail = stage, tail


class DvcProcess:
    """A process that runs DVC. It ends when the process that started it ends.

    It is in a process group of its own, together with everything that it starts.

    Args:
        folder: Folder in which it runs DVC.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        process = subprocess.Popen(  # noqa: S603 - this module
            [sys.executable, "-m", __name__],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PATH": path},
        )
        self._process = process
        self._requests, self._answers = cast("tuple[IO[str], IO[str]]", (process.stdin, process.stdout))

    def alive(self) -> bool:
        """Return whether the process is still running."""
        return self._process.poll() is None

    def do(self, commands: Sequence[Sequence[str]], environment: Mapping[str, str]) -> tuple[int, str]:
        """Run DVC commands one after another until one fails.

        Args:
            commands: The command-line arguments of each, without `dvc`.
            environment: Environment variables to set while they run.

        Returns:
            The exit status of the last command that ran, and the output of all. If the process was ended meanwhile, a
            status other than 0 and a note instead of the output.
        """
        answer = ""
        with contextlib.suppress(OSError, ValueError):  # the process may have been ended
            print(json.dumps([commands, environment]), file=self._requests, flush=True)
            answer = self._answers.readline()
        if not answer:  # the process was killed
            return self._process.wait() or 1, "ended from outside"
        status, output = json.loads(answer)
        return status, output

    def interrupt(self) -> None:
        """Send SIGINT to the process and to everything it runs, as Ctrl-C does."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """Send SIGKILL to the process and to everything it runs."""
        self._signal(signal.SIGKILL)

    def end(self, patience: float = PATIENCE) -> None:
        """End the process and everything it runs.

        An idle process ends at once; one that takes longer than `patience` seconds is killed.
        """
        with contextlib.suppress(OSError):
            self._requests.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        self.kill()
        self._process.wait()

    def _signal(self, kind: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, kind)


class DvcProcesses:
    """A pool of DVC processes for each folder."""

    def __init__(self) -> None:
        self._free: dict[Path, list[DvcProcess]] = {}
        self._busy: dict[DvcProcess, str] = {}
        self._guard = threading.Lock()
        self._ended = False
        self._gone: set[str] = set()

    @contextlib.contextmanager
    def one(self, folder: Path, client: str = "") -> Iterator[DvcProcess]:
        """Yield a process that works in `folder` and that nobody else uses during the block.

        Args:
            folder: The folder.
            client: Whom it works for meanwhile, if others use this pool too; see `end_those_of`.

        Raises:
            RuntimeError: if `end(for_good=True)` or `end_those_of(client)` was called before.
        """
        with self._guard:
            if self._ended or client in self._gone:
                raise RuntimeError("interrupted")
            free = self._free.setdefault(folder, [])
            process = free.pop() if free else None
            if process is None or not process.alive():
                process = DvcProcess(folder)
            self._busy[process] = client
        try:
            yield process
        finally:
            with self._guard:
                del self._busy[process]
                # One of a client that is gone may be about to be killed.
                if process.alive() and not self._ended and client not in self._gone:
                    self._free.setdefault(folder, []).append(process)  # `end` may have cleared it meanwhile

    def run(self, folder: Path, *arguments: str, restore_only: bool = False) -> tuple[int, str]:
        """Run one DVC command in `folder`; return its exit status and output.

        Args:
            folder: The folder.
            arguments: The command-line arguments, without `dvc`.
            restore_only: Whether a stage that DVC would have to run, because it cannot restore it, fails instead.
        """
        with self.one(folder) as process:
            return process.do([arguments], {RESTORE_ONLY: "1"} if restore_only else {})

    def start(self, folder: Path, count: int) -> None:
        """Start `count` processes in advance, so that they import DVC while the caller does something else."""
        with self._guard:
            self._free.setdefault(folder, []).extend(DvcProcess(folder) for _ in range(count))

    def end(self, for_good: bool = False) -> None:
        """End all processes and everything they run.

        If this is interrupted, as by a second Ctrl-C, they are killed at once.

        Args:
            for_good: Whether to refuse to start others afterwards.
        """
        with self._guard:
            self._ended = self._ended or for_good
            every = [*self._busy, *(process for free in self._free.values() for process in free)]
            self._free.clear()
        _end(every)

    def end_those_of(self, client: str) -> None:
        """End the processes that work for one client, with everything they run, and idle ones; start none for it again."""
        with self._guard:
            if client:  # "" is no client, and what works for none must not be refused from now on
                self._gone.add(client)
            idle = [process for free in self._free.values() for process in free]
            self._free.clear()
            its = [process for process, whose in self._busy.items() if whose == client]
        _end([*its, *idle])


def _end(processes: Sequence[DvcProcess]) -> None:
    try:
        for process in processes:
            process.interrupt()
        deadline = time.monotonic() + PATIENCE
        for process in processes:
            process.end(max(0.0, deadline - time.monotonic()))
    except BaseException:  # a second Ctrl-C: nobody waits any longer, and a process left alive would keep Dask waiting
        for process in processes:
            process.kill()
        raise


def tail(output: str) -> str:
    """Return the last `TAIL` lines of an output."""
    return "\n".join(output.rstrip().splitlines()[-TAIL:])


def _serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer requests until their stream is closed."""
    ask_for_locks_often()
    change_inside()
    forks = Forks(Path.cwd())

    def run(command: str, folder: str, environment: Mapping[str, str]) -> int | None:
        return 1 if RESTORE_ONLY in environment else forks.run(command, folder, environment)

    give_commands_to(run)
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            line = requests.readline()
            if not line:
                return
            commands, environment = json.loads(line)
            status = 0
            with _environment(environment), tempfile.TemporaryFile("w+", errors="replace") as output:
                if any(word.startswith(FORKED) for words in commands for word in words):
                    forks.start(os.environ)  # it imports while DVC looks at the stage
                for target in (1, 2):
                    os.dup2(output.fileno(), target)
                for arguments in commands:
                    status = status or run_command(arguments)
                forget_staged_files()
                sys.stdout.flush()
                sys.stderr.flush()
                output.seek(0)
                try:
                    print(json.dumps([status, output.read()]), file=answers, flush=True)
                except BrokenPipeError:  # nobody waits for the answer any more
                    os._exit(1)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables during one request only."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _end_with(parent: int) -> None:
    """End this process and everything it runs once the process that started it, `parent`, is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.killpg(0, signal.SIGINT)  # gives DVC the time to release its locks
        time.sleep(PATIENCE)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _main() -> None:
    _end_with(os.getppid())
    # A shell starts background commands with SIGINT ignored, and children inherit that; here SIGINT must end a stage.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # For each command DVC would start a process that reports it to DVC's authors, a second of a core for every stage.
    os.environ["DVC_NO_ANALYTICS"] = "1"
    # The commands that DVC starts inherit the standard streams; they must neither read requests nor write answers.
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(nothing, standard)
    _serve(requests, answers)


if __name__ == "__main__":
    _main()
