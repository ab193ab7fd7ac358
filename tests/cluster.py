"""A cluster of processes of this machine: a Dask scheduler and its workers."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.clones import ENVIRONMENT
from tests.waiting import LIMIT

#: Ends once a scheduler knows so many workers.
KNOWN = """
import sys
from distributed import Client
address, workers, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
with Client(address, timeout=seconds) as client:
    client.wait_for_workers(workers, timeout=seconds)
"""


class Cluster:
    """A scheduler and workers, each a process in a folder of its own that may be killed and started again.

    Workers keep their clones in their folders, as on machines of their own, or share them, as on one machine. Stages find
    the number of their worker in WORKER.
    """

    def __init__(self, folder: Path, stack: ExitStack, one_machine: bool) -> None:
        folder.mkdir()
        self.folder, self.stack, self.one_machine = folder, stack, one_machine
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def schedule(self) -> None:
        """Start the scheduler."""
        self._start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")

    def work(self, number: int) -> None:
        """Start a worker."""
        more = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")
        self._start(f"worker-{number}", "worker", self.address, *more, WORKER=str(number))

    def wait_for(self, workers: int) -> None:
        """Return once the scheduler knows so many workers: one that comes late finds nothing left to do."""
        command = [sys.executable, "-c", KNOWN, self.address, str(workers), str(LIMIT)]
        subprocess.run(command, cwd=self.folder, env=ENVIRONMENT, stderr=subprocess.DEVNULL, check=True)

    def kill(self, name: str) -> None:
        """Kill the scheduler or a worker, and nothing that it has started."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def _start(self, name: str, *command: str, **variables: str) -> None:
        place = self.folder / name
        place.mkdir(exist_ok=True)
        clones = (self.folder if self.one_machine else place) / "clones"
        environment = {**ENVIRONMENT, "TAG_CLONES": str(clones), **variables}
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *command],
            cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        self.processes[name] = process


@contextmanager
def cluster(folder: Path, workers: int, one_machine: bool = False) -> Iterator[Cluster]:
    """A scheduler that knows so many workers."""
    with ExitStack() as stack:
        made = Cluster(folder, stack, one_machine)
        made.schedule()
        for number in range(workers):
            made.work(number)
        made.wait_for(workers)
        yield made
