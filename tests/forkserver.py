"""The project's commands in forks of a process that has imported all that they need: an import of PyTorch or DVC takes
longer than what most tests have them do.

    python -m tests.forkserver SOCKET

What runs in a fork is what `python -m` or `dvc` would run: the same code, arguments, folder, environment and arithmetic. A
command that needs other code, as in a clone that a test has edited, or other arithmetic is left to a process of its own.
tests/test_forkserver.py holds both.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import random
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tests.paths import ROOT

#: The stages; what their commands, those of `pipeline` and DVC import, at once or later. One that is not here is imported in
#: each fork anew.
STAGES = ("plan", "download", "split", "train", "eigenspectrum", "summarize", "figures")
MODULES = (
    *(f"stages.{stage}" for stage in STAGES),
    "pipeline.analysis.metrics", "pipeline.analysis.summary", "pipeline.analysis.tables", "pipeline.commands.app",
    "pipeline.experiments.command", "pipeline.figures.draw", "pipeline.models", "pipeline.parallel.command",
    "pipeline.parallel.dvc", "pipeline.report.report", "pipeline.spectra.eigenspectrum", "pipeline.streams.writer",
    "pipeline.support.compute", "pipeline.support.scratch", "pipeline.training.live", "pipeline.training.loop",
    "matplotlib.backends.backend_agg", "scipy.sparse.linalg", "sklearn.datasets", "torch.fx.experimental.symbolic_shapes",
    "dvc.cachemgr", "dvc.cli", "dvc.cli.parser", "dvc.commands.repro", "dvc.commands.status", "dvc.data_cloud",
    "dvc.repo.artifacts", "dvc.repo.brancher", "dvc.repo.datasets", "dvc.repo.experiments", "dvc.repo.graph",
    "dvc.repo.index", "dvc.repo.metrics.show", "dvc.repo.open_repo", "dvc.repo.params", "dvc.repo.plots",
    "dvc.repo.reproduce", "dvc.repo.stage", "dvc.repo.status", "dvc.rwlock", "dvc.scm", "dvc.stage.run",
    "dvc.utils.strictyaml", "dvc_data.hashfile.db.local", "dvc_data.hashfile.status", "networkx", "pygit2", "scmrepo.git",
    "tabulate",
)  # fmt: skip
#: Characters by which a shell would change a command.
SHELL = set("$&|;<>()`\\\"'*?[]#~=%!{}\n")
#: The environment variable with the address of the server that all processes of a test run share.
SHARED = "TAG_TESTS_FORK_SERVER"
#: The status of a fork that would need other arithmetic.
OTHER = 199
#: Longest request in bytes, and longest answer.
LONGEST = 1 << 17


def module_of(command: Sequence[str]) -> tuple[str, list[str]] | None:
    """The module that a command runs, `dvc` for DVC, and its arguments; None if it is none that is run in a fork."""
    if not sys.platform.startswith("linux"):
        return None
    match command:
        case ["dvc", *arguments]:
            return "dvc", arguments
        case [python, "-m", module, *arguments] if python in ("python", sys.executable):
            known = ("pipeline", *(f"stages.{stage}" for stage in STAGES))
            return (module, arguments) if module in known else None
    return None


def code_of(folder: Path) -> dict[str, dict[str, bytes]]:
    """The project's packages in a folder: their code."""
    return {
        package: {path.relative_to(folder).as_posix(): path.read_bytes() for path in (folder / package).rglob("*.py")}
        for package in ("pipeline", "stages")
        if (folder / package).is_dir()
    }


@functools.cache
def own_code() -> dict[str, dict[str, bytes]]:
    """The code that a fork runs."""
    return code_of(ROOT)


class ForkServer:
    """A process that runs commands in forks of itself, and imports what they need at the first one.

    It ends with the process that started it. All processes of a test run share that of pytest-xdist's controller.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.address = f"{self._folder.name}/socket"
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with listening:
            listening.bind(self.address)
            listening.listen(64)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forkserver", str(listening.fileno())],
                cwd=ROOT, stdin=subprocess.PIPE, pass_fds=[listening.fileno()],
                env={key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "GIT_", "PYTHONPATH"))},
            )  # fmt: skip

    def end(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()


@functools.cache
def fork_server() -> ForkServer:
    """The one of this process, started when it is first asked for."""
    return ForkServer()


def share_fork_server() -> None:
    """Let the processes that this one starts use its server."""
    os.environ[SHARED] = fork_server().address


def end_fork_server() -> None:
    """End the server of this process, if it has one."""
    if fork_server.cache_info().currsize:
        fork_server().end()


def run_in_fork(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], plain: bool = False
) -> tuple[int, str] | None:
    """The exit status of a command, and its stdout and stderr together; None if it is not run in a fork.

    plain: DVC reads and writes its files as it does, and not as in `pipeline.parallel.dvc_process`, which is faster.
    """
    asked = module_of(command)
    if asked is None:
        return None
    module, arguments = asked
    if module != "dvc" or set(arguments) & {"repro", "exp"}:  # other commands of DVC run nothing of the project
        there = code_of(folder)
        if any(code != own_code()[package] for package, code in there.items()):
            return None
        if module != "dvc" and module.partition(".")[0] not in there:
            return None
    address = os.environ.get(SHARED) or fork_server().address
    with tempfile.TemporaryFile("w+", errors="replace") as output, Path(os.devnull).open() as nothing:
        files = [nothing.fileno(), *[output.fileno()] * 2]
        status = ask(address, *asked, str(folder), environment, files, plain)
        output.seek(0)
        return None if status is None else (status, output.read())


def ask(
    address: str,
    module: str,
    arguments: Sequence[str],
    folder: str,
    environment: Mapping[str, str],
    files: Sequence[int],
    plain: bool = False,
) -> int | None:
    """Have a module run; its exit status, as `subprocess` gives it, or None if it needs other arithmetic."""
    request: dict[str, Any] = {
        "module": module,
        "arguments": arguments,
        "folder": folder,
        "environment": dict(environment),
    }
    request |= {"address": address, "plain": plain}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(address)
        socket.send_fds(connection, [json.dumps(request).encode()], files)
        answer = connection.recv(LONGEST)
    return json.loads(answer)["status"] if answer else None


def main() -> None:
    """Once asked, import; then fork for every request, until stdin is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the tests and the forks
    listening = socket.socket(fileno=int(sys.argv[1]))
    if sys.stdin in select.select([listening, sys.stdin], [], [])[0]:
        return
    from stages.process import arithmetic

    before = dict(os.environ)
    made_for = arithmetic()
    portable = {name: value for name, value in os.environ.items() if before.get(name) != value}
    for name in MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page
    running: dict[int, tuple[int, socket.socket]] = {}
    while True:
        ready, _, _ = select.select([listening, sys.stdin, *running], [], [])
        if sys.stdin in ready:
            return
        for done in running.keys() & set(ready):
            process, connection = running.pop(done)
            status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            connection.send(json.dumps({"status": None if status == OTHER else status}).encode())
            connection.close()
            os.close(done)
        if listening in ready:
            connection, _ = listening.accept()
            message, files, _, _ = socket.recv_fds(connection, LONGEST, 3)
            process = os.fork()
            if process == 0:
                listening.close()
                connection.close()
                for standard, file in enumerate(files):
                    os.dup2(file, standard)
                    os.close(file)
                _become(made_for=made_for, portable=portable, **json.loads(message))
            for file in files:
                os.close(file)
            running[os.pidfd_open(process)] = process, connection


def _become(
    module: str, arguments: Sequence[str], folder: str, environment: Mapping[str, str], address: str,
    plain: bool, made_for: tuple[bool, str], portable: Mapping[str, str],
) -> NoReturn:  # fmt: skip
    """In a fork: run a module, as `python -m` does, or DVC, and end."""
    from pipeline.support.errors import UserError
    from stages import process
    from stages.process import arithmetic

    signal.signal(signal.SIGINT, signal.default_int_handler)
    random.seed()  # DVC draws names
    os.chdir(folder)
    process.__file__ = str(Path(folder) / "stages/process.py")  # the code there is the same
    stage = module.startswith("stages.")
    with contextlib.suppress(UserError):  # which the stage itself will tell
        if stage and arithmetic(only_ask=True) != made_for:
            os._exit(OTHER)
    os.environ.clear()
    os.environ.update({**environment, **(portable if stage else {})})
    sys.argv = [module, *arguments]
    status: Any = 0
    try:
        if module == "dvc":
            from dvc.cli import main as dvc

            from pipeline.parallel.dvc_inside import change_inside, give_commands_to

            def run(command: str, folder: str, environment: Mapping[str, str]) -> int | None:
                asked = None if SHELL & set(command) else module_of(shlex.split(command))
                return asked and ask(address, *asked, folder, environment, [0, 1, 2])

            give_commands_to(run)
            if not plain:
                change_inside()
            status = dvc(arguments)
        else:
            sys.modules.pop(module, None)  # which warns of a module that is there already
            sys.path[0] = str(Path.cwd())
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status or 0)  # to take every module down would copy its pages


if __name__ == "__main__":
    main()
