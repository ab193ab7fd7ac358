"""The stages side by side: what DVC's graph allows to run at once does, on this machine or on a Dask cluster.

    python -m pipeline.repro [TARGET ...] [-j N] [--scheduler ADDRESS] [--dry] [--keep-going]

DVC says which stages are stale; Dask hands those, and what depends on them, out in the order of the graph, each as
`dvc --wait-for-lock repro -q -s STAGE`, which skips a stage that turns out to be unchanged. At the end a plain `dvc repro`
verifies. A worker of a running scheduler (SLURM through dask-jobqueue, Kubernetes through dask-kubernetes) must see this
folder under the same path and have the project installed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import UserError, nearest, run_stage
from pipeline.files import write_text

#: Lines of a failing stage's output that are shown.
TAIL = 15
#: Process groups of the stages that this process runs.
_RUNNING: set[int] = set()


class StageFailedError(Exception):
    """A stage ended with a status other than 0. Its words are the stage's name and the end of its output."""

    def __init__(self, stage: str, tail: str) -> None:
        super().__init__(stage, tail)
        self.stage, self.tail = stage, tail


def plan(targets: Sequence[str]) -> dict[str, list[str]]:
    """The stages to hand out, in the order of the graph, each with those of them that it depends on.

    They are what is stale, and what depends on that; the order is that of `dvc repro`. Raises UserError for an unknown
    target.
    """
    import networkx as nx
    from dvc.repo import Repo

    with Repo(".") as repo:
        graph = nx.relabel_nodes(repo.index.graph, {stage: stage.addressing for stage in repo.index.graph})
        wanted = set(graph)
        if targets:
            names = {target: _matching(target, graph) for target in targets}
            wanted = {name for found in names.values() for name in found}
            wanted |= {below for name in wanted for below in nx.descendants(graph, name)}  # edges point to dependencies
        with repo.lock:
            stale = {stage.addressing for stage in repo.index.stages if stage.addressing in wanted and stage.changed()}
    stale |= {above for name in stale for above in nx.ancestors(graph, name)} & wanted
    ordered = [name for name in nx.dfs_postorder_nodes(graph) if name in stale]
    return {name: [below for below in graph.successors(name) if below in stale] for name in ordered}


def lock_order(before: Sequence[str], text: str, serial: Sequence[str]) -> str:
    """dvc.lock as one stage after the other would have left it: what stood in it stays in its place, new stages follow in the
    order of the graph. DVC appends a stage when it ends, and side by side they end in any order.

    before: the names that stood in it. text: of dvc.lock now. serial: names in the order of `dvc repro`.
    """
    head, *blocks = re.split(r"^(?=  [^\s#])", text, flags=re.MULTILINE)
    place = {
        name: number for number, name in enumerate([*before, *(name for name in serial if name not in set(before))])
    }
    blocks.sort(key=lambda block: place.get(block.partition(":")[0].strip(), len(place)))
    return head + "".join(blocks)


def _locked() -> list[str]:
    """The names in dvc.lock, in their order."""
    path = Path("dvc.lock")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return re.findall(r"^  ([^\s#][^:]*):", text, flags=re.MULTILINE)


def _matching(target: str, graph: Any) -> list[str]:
    found = [name for name in graph if name == target or name.partition("@")[0] == target]
    if not found:
        raise UserError(
            f"no stage '{target}' in dvc.yaml; {nearest(target, {*graph, *(n.partition('@')[0] for n in graph)})}"
        )
    return found


def work(stage: str, folder: str, *dependencies: object) -> float:
    """Run one stage; its seconds. For a worker. Raises StageFailedError."""
    start = time.perf_counter()
    with subprocess.Popen(  # noqa: S603 - DVC, with a stage of its own graph
        [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "-q", "-s", stage],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"},
    ) as running:
        _RUNNING.add(running.pid)
        try:
            output, _ = running.communicate()
        finally:
            _RUNNING.discard(running.pid)
    if running.returncode:
        raise StageFailedError(stage, "\n".join(output.rstrip().splitlines()[-TAIL:]))
    return time.perf_counter() - start


def end_children() -> None:
    """End the stages that this process runs, and their commands."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        for group in list(_RUNNING):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, kind)
        if kind == signal.SIGTERM:
            time.sleep(1)


@contextlib.contextmanager
def connected(jobs: int, scheduler: str | None) -> Iterator[Any]:
    """A Dask client of the scheduler at an address, or of `jobs` threads of this process."""
    import logging

    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.ERROR)
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=10)
        except OSError as error:
            raise UserError(
                f"--scheduler {scheduler}: no scheduler answers ({error}); start one, or mend the address"
            ) from None
        with client:
            yield client
        return
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=jobs, processes=False, dashboard_address=None, memory_limit=0
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def run(stages: Mapping[str, Sequence[str]], client: Any, keep_going: bool) -> dict[str, str]:
    """Hand the stages out; the output of those that failed, by name. Others that depend on them are not run."""
    from distributed import as_completed

    folder = str(Path.cwd())
    futures: dict[str, Any] = {}
    for name, dependencies in stages.items():
        below = [futures[other] for other in dependencies]
        futures[name] = client.submit(work, name, folder, *below, key=f"{name} {time.time_ns()}", pure=False, retries=0)
    names = {future.key: name for name, future in futures.items()}
    failed: dict[str, str] = {}
    done = 0
    live = _Live(client, names)
    for future in as_completed(futures.values()):
        name = names[future.key]
        done += 1
        if future.status == "finished":
            live.say(f"{name}: {future.result():.1f} s   ({done} of {len(stages)})")
            continue
        error = future.exception() if future.status == "error" else None
        if isinstance(error, StageFailedError) and error.stage == name:
            failed[name] = error.tail
            live.say(f"{name}: FAILED   ({done} of {len(stages)})\n{error.tail}")
            if not keep_going:
                client.cancel(list(futures.values()), force=True)
                break
        elif not isinstance(error, StageFailedError):
            failed[name] = str(error or future.status)
            live.say(f"{name}: {failed[name]}")
    live.end()
    return failed


class _Live:
    """A line that tells what runs, where the output is a terminal."""

    def __init__(self, client: Any, names: Mapping[str, str]) -> None:
        import threading

        self.client, self.names, self.start = client, names, time.monotonic()
        self.shown = sys.stderr.isatty()
        self.stop = threading.Event()
        if self.shown:
            threading.Thread(target=self._refresh, daemon=True).start()

    def _refresh(self) -> None:
        while not self.stop.wait(1):
            with contextlib.suppress(Exception):  # the client may close meanwhile
                keys = [key for held in self.client.processing().values() for key in held]
                running = ", ".join(self.names.get(key, str(key)) for key in keys)
                text = f"{time.monotonic() - self.start:.0f} s   {running}"
                print(f"\r\033[K{text[:110]}", end="", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        print(("\r\033[K" if self.shown else "") + text, file=sys.stderr, flush=True)

    def end(self) -> None:
        self.stop.set()
        if self.shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.repro", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="stages, as train or train@tag-1 (default: all)")
    parser.add_argument(
        "-j", "--jobs", type=int, default=os.cpu_count() or 1, help="stages at once (default: the cores)"
    )
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a running Dask scheduler, as tcp://host:8786")
    parser.add_argument("--dry", action="store_true", help="only list what would be handed out")
    parser.add_argument("--keep-going", action="store_true", help="after a failure run what does not depend on it")
    given = parser.parse_args(arguments)
    if given.jobs < 1:
        raise UserError(f"--jobs {given.jobs}: at least 1")
    start = time.monotonic()
    stages = plan(given.targets)
    if given.dry or not stages:
        print("\n".join(stages) or "nothing to do: everything is up to date")
        return
    before = _locked()
    with connected(given.jobs, given.scheduler) as client:
        try:
            failed = run(stages, client, given.keep_going)
        except KeyboardInterrupt:
            client.run(end_children)
            raise
        if failed and not given.keep_going:
            client.run(end_children)
    if Path("dvc.lock").exists():
        text = Path("dvc.lock").read_text(encoding="utf-8")
        write_text("dvc.lock", lock_order(before, text, list(stages)))
    if failed:
        raise UserError(
            f"{len(failed)} of {len(stages)} stages failed: {', '.join(failed)}; mend the cause and run again"
        )
    command = [sys.executable, "-m", "dvc", "repro", *given.targets]
    verified = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    if verified.returncode or "Running stage" in verified.stdout:
        raise UserError(
            f"'dvc repro' found more to do: {verified.stdout[-500:]} {verified.stderr[-500:]}; run it again"
        )
    print(f"{len(stages)} stages in {time.monotonic() - start:.0f} s; dvc repro finds nothing more to do")


if __name__ == "__main__":
    run_stage("repro", main)
