"""A process that keeps imported what stages import, and forks to run one: PyTorch alone takes seconds to import.

    python -m stages.forks FD

It reads requests from the socket FD until its other end is closed, and answers each once. A request is a JSON object
with the module, the arguments and the environment of a stage, and comes with three open files for its standard
streams. An answer is a JSON object: `status`, with which the stage ended, or `stale`, why it cannot run here, after
which this process ends. `pipeline.parallel.forks` is the other end.

The stage's module runs in the fork as `python -m` would run it: the same code, the same environment, hence the same
bytes. A fork may only be made of a process without threads, of the same code, environment and arithmetic; otherwise
the request is answered with `stale`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from setproctitle import setproctitle

from stages.process import ENDED, STAGE, arithmetic

#: What the two stages that run once for each method and seed import, at once or later.
MODULES = (
    "stages.train",
    "stages.eigenspectrum",
    "pipeline.analysis.metrics",
    "pipeline.models",
    "pipeline.spectra.eigenspectrum",
    "pipeline.support.compute",
    "pipeline.support.scratch",
    "pipeline.training.live",
    "pipeline.training.loop",
    "numpy.random",
)
#: What PyTorch imports at the first derivative of a vector: a system for computer algebra, which takes most of a second.
#: It is PyTorch's own affair, and may be elsewhere in another version, which then imports it in each stage.
OF_PYTORCH = ("torch.fx.experimental.symbolic_shapes", "torch.utils.serialization.config")
#: Variables in which requests may differ: of DVC, and of CUDA, which is not initialised here.
OWN = {STAGE, "DVC_ROOT", "CUDA_VISIBLE_DEVICES"}
#: Seconds between two looks at a stage, where it cannot be waited for.
LOOK = 0.02
#: Longest request in bytes: the longest environment that Linux allows is shorter.
LONGEST = 1 << 22


def _code() -> dict[str, tuple[int, int]]:
    """Modification time and size of each file of the project that may be imported."""
    stats = {path: path.stat() for folder in ("pipeline", "stages") for path in Path(folder).rglob("*.py")}
    return {str(path): (stat.st_mtime_ns, stat.st_size) for path, stat in stats.items()}


def _compared(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in OWN}


def main() -> None:
    """Import, then answer requests. In a fork, run a stage."""
    # Ctrl-C reaches the stage, which is in the same process group; this process ends with its socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=int(sys.argv[1]))
    given, code = _compared(os.environ), _code()
    made_for = arithmetic()
    for name in MODULES:
        importlib.import_module(name)
    for name in OF_PYTORCH:
        with suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page
    while True:
        message, files, _, _ = socket.recv_fds(connection, LONGEST, 3)
        if not message:
            return
        request = json.loads(message)
        stale = ""
        if len(list(Path("/proc/self/task").iterdir())) > 1:
            stale = "has threads"
        elif _compared(request["environment"]) != given:
            stale = "another environment"
        elif _code() != code:
            stale = "the code has changed"
        elif arithmetic(only_ask=True) != made_for:
            stale = "other arithmetic"
        if stale:
            connection.send(json.dumps({"stale": stale}).encode())
            return
        stage = os.fork()
        if stage == 0:
            connection.close()
            _become(request["module"], request["arguments"], request["environment"], files)
        for file in files:
            os.close(file)
        connection.send(json.dumps({"status": _wait(stage, connection)}).encode())


def _wait(stage: int, connection: socket.socket) -> int:
    """Wait for a stage and return its exit status, as `subprocess` gives it.

    If the other end of the socket is closed first, this process ends, and the stage with it: see `end_with_dvc`.
    """
    status = None
    while status is None:
        if _closed_before(stage, connection):
            os._exit(ENDED)
        ended, code = os.waitpid(stage, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if ended else None
    return status


def _closed_before(stage: int, connection: socket.socket) -> bool:
    """Wait until a stage ends or the other end of the socket is closed, and say whether it was the latter.

    Where a process cannot be waited for beside a socket, as in Pythons that were built without it, this looks again after
    a moment: it then returns early, too.
    """
    try:
        done = os.pidfd_open(stage)
    except (AttributeError, OSError):
        return bool(select.select([connection.fileno()], [], [], LOOK)[0])  # nothing is sent while a stage runs
    ready, _, _ = select.select([done, connection.fileno()], [], [])
    os.close(done)
    return connection.fileno() in ready


def _become(module: str, arguments: Sequence[str], environment: Mapping[str, str], files: Sequence[int]) -> NoReturn:
    """Run a stage in this process, a fork, and end it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        os.close(file)
    os.environ.update({name: value for name, value in environment.items() if name in OWN})
    setproctitle(" ".join(["python", "-m", module, *arguments]))
    sys.argv = [module, *arguments]  # `run_module` replaces the first by the file
    del sys.modules[module]  # which warns of a module that is there already
    status: Any = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
    if status is None or isinstance(status, int):
        # Taking all modules down would copy most of the pages that are shared with the process that forked this one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status or 0)
    sys.exit(status)


if __name__ == "__main__":
    main()
