"""Run stages in a Dask worker, on request."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.arguments import cores
from pipeline.parallel.clones import Source, own_clone
from pipeline.parallel.dvc import PATIENCE, Outcome, in_use, outcome
from pipeline.parallel.dvc_process import DvcProcesses, StageFailedError, tail
from pipeline.support.errors import NOTE
from pipeline.support.kept import forget

#: The Dask topic on which workers announce each stage that they begin.
TOPIC = "tag-pipeline"
#: Seconds between two attempts to run a stage on which another process is at work.
INTERVAL = 0.5
#: The processes in which this process runs DVC.
PROCESSES = DvcProcesses()
_FREE_GPUS: queue.SimpleQueue[str] = queue.SimpleQueue()
_COUNTING, _counted = threading.Lock(), False


@dataclass(frozen=True)
class Request:
    """A request to run a stage.

    Attributes:
        stage: Name of the stage.
        folder: Folder in which to run it.
        gpu: Whether it takes a GPU of its own.
        source: What the worker clones to run the stage there instead of in `folder`; None runs it in `folder`.
        client: Id of the Dask client that asks, of which a scheduler may have several; "" if there are no others.
        anew: Whether it runs even where DVC's run-cache has its outputs.
    """

    stage: str
    folder: Path
    gpu: bool = False
    source: Source | None = None
    client: str = ""
    anew: bool = False


@dataclass(frozen=True)
class Result:
    """How a stage ended.

    Attributes:
        seconds: Wall-clock time it took, including what a clone pulls and pushes.
        did: Whether it ran, was restored from DVC's run-cache, or had not changed.
        notes: What it said that a person should know, as it said it (see `pipeline.support.errors.note`).
    """

    seconds: float
    did: Outcome
    notes: tuple[str, ...] = ()


def work(request: Request) -> Result:
    """Run one stage in a Dask worker, and announce it on `TOPIC`.

    Raises:
        StageFailedError: if the stage fails; see `perform`.
    """
    from distributed import get_worker

    worker = get_worker()
    worker.log_event(TOPIC, {"stage": request.stage, "at": str(worker.name)})
    return perform(request, worker.state.nthreads)


def perform(request: Request, jobs: int) -> Result:
    """Run one stage in one of this process's DVC processes.

    Args:
        request: The stage, and where to run it.
        jobs: How many stages this process runs at once, among which the cores are divided.

    Raises:
        StageFailedError: if a DVC command fails, or a Git command that prepares the clone.
    """
    start = time.perf_counter()
    # For libraries that use every core they see; PyTorch uses as many threads as compute.threads says.
    environment = {"OMP_NUM_THREADS": str(max(1, cores() // jobs))}
    repro = ["--wait-for-lock", "repro", "--single-item", *(["--no-run-cache"] if request.anew else []), request.stage]
    with contextlib.ExitStack() as stack:
        if request.gpu:
            environment["CUDA_VISIBLE_DEVICES"] = stack.enter_context(_one_gpu(request.stage))
        if request.source is None:
            folder, commands = request.folder, [repro]
        else:
            folder = stack.enter_context(own_clone(request.source, request.stage))
            inputs = request.source.inputs
            commands = [["pull", "--force", *inputs]] if inputs else []
            commands += [repro, ["push", "--run-cache", request.stage]]
        process = stack.enter_context(PROCESSES.one(folder, request.client))
        status, output = process.do(commands, environment)
        # A worker that was killed leaves its DVC process and the stage behind, which end a few seconds after it. To wait
        # here, and not within DVC, leaves DVC's own lock to them, which they need to end.
        deadline = time.monotonic() + PATIENCE
        while status and in_use(output) and time.monotonic() < deadline:
            time.sleep(INTERVAL)
            status, output = process.do(commands, environment)
        if not status:  # DVC has recorded the outputs
            name, _, run = request.stage.partition("@")
            forget(folder / "scratch" / name / run)
    if status:
        raise StageFailedError(request.stage, tail(output))
    notes = tuple(line for line in output.splitlines() if NOTE in line)
    return Result(time.perf_counter() - start, outcome(output), notes)


def end_processes(client: str = "") -> None:
    """End the DVC processes that work for a Dask client in this process, and everything they run."""
    PROCESSES.end_those_of(client)


def gpus() -> list[str]:
    """List the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


@contextlib.contextmanager
def _one_gpu(stage: str) -> Iterator[str]:
    """Yield a GPU that no other stage of this process uses during the block; wait until one is free.

    Raises StageFailedError, of `stage`, if this process has none.
    """
    global _counted
    with _COUNTING:
        if not _counted:
            found = gpus()
            for name in found:
                _FREE_GPUS.put(name)
            _counted = bool(found)
        if not _counted:
            raise StageFailedError(
                stage,
                "this worker offers a GPU, and PyTorch finds none there; start the worker without GPU among its resources",
            )
    name = _FREE_GPUS.get()
    try:
        yield name
    finally:
        _FREE_GPUS.put(name)
