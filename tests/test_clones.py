"""Several machines, as processes of one: a Dask scheduler, workers with clones of their own, a DVC remote between them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.clones import ENVIRONMENT, Clone, everything, fresh_clone, one_line


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
        deadline = time.monotonic() + 60
        while not address.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        import json

        yield str(json.loads(address.read_text(encoding="utf-8"))["address"])


def test_workers_with_clones_of_their_own_and_a_remote_between_them(base: Clone, tmp_path: Path) -> None:
    clone = fresh_clone(tmp_path / "first")
    clone.run("dvc", "remote", "add", "-d", "shelf", str(tmp_path / "shelf"))
    clone.commit("remote")
    with scheduler_with_workers(tmp_path / "dask", 2) as address:
        command = [sys.executable, "-m", "pipeline.repro", "--scheduler", address, "--clone-from", str(clone.folder)]
        clone.edit("params.yaml", "dpi: 150", "dpi: 80")
        assert "params.yaml is not; commit it first" in one_line(clone.run(*command, status=2))
        clone.edit("params.yaml", "dpi: 80", "dpi: 150")
        text = clone.run(*command)
        assert "dvc repro finds nothing more to do" in text
        # Nothing was trained here: no logs, which are no outputs; and each of the two workers had something to do.
        assert not (clone.folder / "logs").exists()
        assert all(list((tmp_path / "dask" / f"worker-{number}").glob("clones/*/0/logs")) for number in range(2))
        assert clone.repro() == set()
        assert (clone.folder / "dvc.lock").read_bytes() == (base.folder / "dvc.lock").read_bytes()
        for method in ("naive", "stable-ewc"):
            assert everything(clone, method) == everything(base, method)
        # Again, with another parameter: the clones are used again, and only what it touches runs.
        clone.edit("params.yaml", "  k: 3 ", "  k: 2 ")
        clone.commit("fewer eigenvalues")
        assert "5 stages (5 ran)" in clone.run(*command)
        assert len(list((tmp_path / "dask").glob("worker-*/clones/*/*/.git"))) == 2
