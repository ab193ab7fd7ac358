"""A cluster of processes of this machine: a Dask scheduler and its workers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.clones import ENVIRONMENT
from tests.waiting import LIMIT

#: Ends once the scheduler of a file knows so many workers.
KNOWN = """
import sys
from distributed import Client
file, workers, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
with Client(scheduler_file=file, timeout=seconds) as client:
    client.wait_for_workers(workers, timeout=seconds)
"""


@contextmanager
def scheduler_with_workers(folder: Path, workers: int) -> Iterator[str]:
    """The address of a Dask scheduler whose workers keep their clones each in a folder of its own."""
    folder.mkdir()
    address = folder / "address.json"
    dask = [sys.executable, "-m", "dask"]
    common = ["--scheduler-file", str(address)]
    with ExitStack() as stack:

        def start(command: list[str], place: Path) -> None:
            place.mkdir()
            environment = {**ENVIRONMENT, "TAG_CLONES": str(place / "clones")}
            process = subprocess.Popen(
                command, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.kill)

        start(
            [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *common], folder / "scheduler"
        )
        for number in range(workers):
            start(
                [*dask, "worker", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1", *common],
                folder / f"worker-{number}",
            )
        # A worker that comes late finds nothing left to do.
        command = [sys.executable, "-c", KNOWN, str(address), str(workers), str(LIMIT)]
        subprocess.run(command, cwd=folder, env=ENVIRONMENT, stderr=subprocess.DEVNULL, check=True)
        yield str(json.loads(address.read_text(encoding="utf-8"))["address"])
