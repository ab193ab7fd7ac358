"""The scheduler: keep track of the stages that wait, run and are done, and submit the ready ones to Dask workers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from pipeline.parallel.clones import Source
from pipeline.parallel.dvc_process import StageFailedError, tail
from pipeline.parallel.graph import Graph
from pipeline.parallel.progress import Progress
from pipeline.parallel.worker import PROCESSES, Request, Result, perform, work
from pipeline.support.errors import UserError

#: The stages of the runs: they can use a GPU, and take long.
OF_RUNS = ("train", "eigenspectrum")
#: Name of the Dask resource that stands for GPUs.
GPU = "GPU"


class Scheduler:
    """Submits stages to Dask workers, each as soon as the stages that it depends on are done.

    Args:
        client: The Dask client.
        keep_going: Whether to go on after a failure with the stages that do not depend on it.
        gpu: Whether each train and eigenspectrum stage takes a GPU of its own.
        source: What workers clone; None if they share this folder. With a source, only train and eigenspectrum stages
            go to workers, and all others run in this process.
        anew: Whether train and eigenspectrum stages run even where DVC's run-cache has their outputs.

    Attributes:
        failed: Names of the stages that failed.
        done: Name of each stage that is done -> its result.
    """

    def __init__(self, client: Any, keep_going: bool, gpu: bool, source: Source | None, anew: bool = False) -> None:
        self.client, self.keep_going, self.gpu, self.source, self.anew = client, keep_going, gpu, source, anew
        self.failed: list[str] = []
        self.done: dict[str, Result] = {}
        self._pushed: set[str] = set()
        self._noted: set[str] = set()

    def run(self, stages: Mapping[str, Sequence[str]], graph: Graph) -> None:
        """Run stages, each as soon as the stages that it depends on are done, and add them to `done` or `failed`.

        Args:
            stages: Each stage to run, with those of these stages that it depends on.
            graph: The graph of all stages.

        Raises:
            UserError: if inputs for the workers' clones cannot be pushed to DVC's remote, or if Dask's scheduler is gone.
        """
        from distributed import as_completed

        total = len(self.done) + len(stages)
        sorter = TopologicalSorter(stages)
        sorter.prepare()
        here: list[str] = []
        futures: dict[Any, str] = {}
        completed = as_completed()
        with Progress(self.client) as progress:
            try:
                while sorter.is_active():
                    for name in sorter.get_ready():
                        if self.source is not None and "@" not in name:
                            here.append(name)
                        else:
                            future = self._submit(name, graph)
                            futures[future] = name
                            completed.add(future)
                    if not here and not futures:
                        return  # all remaining stages depend on one that failed
                    try:
                        if here:
                            name = here.pop(0)
                            progress.begun(name, "here")
                            result = perform(Request(name, Path.cwd()), 1)
                        else:
                            future = next(completed)
                            name = futures.pop(future)
                            result = self._result(name, future)
                    except StageFailedError as error:
                        self.failed.append(name)
                        progress.ended(name, f"{name}: FAILED\n{error.tail}")
                        if not self.keep_going:
                            return
                    else:
                        self.done[name] = result
                        sorter.done(name)
                        did = "" if result.did == "ran" else f", {result.did}"
                        text = f"{name}: {result.seconds:.1f} s{did}   ({len(self.done)} of {total})"
                        progress.ended(name, "\n".join([text, *self._new(result.notes)]))
            finally:
                self.client.cancel(list(futures), force=True)

    def _new(self, notes: Sequence[str]) -> list[str]:
        """Those of a stage's notes that none before it has made: what is said of a machine is the same for all runs."""
        new = [text for text in dict.fromkeys(notes) if text not in self._noted]
        self._noted.update(new)
        return new

    def _submit(self, name: str, graph: Graph) -> Any:
        of_a_run = name.partition("@")[0] in OF_RUNS
        gpu = self.gpu and of_a_run
        source = None
        if self.source is not None:
            # Push whole outputs: once DVC has pushed one file of a folder, it takes the whole folder for pushed.
            # What a worker ran in this call, it has pushed itself.
            here = [below for below in graph.stages[name] if "@" not in below or below not in self.done]
            new = [below for below in here if below not in self._pushed]
            if new:
                status, output = PROCESSES.run(Path.cwd(), "push", *new)
                if status:
                    raise UserError(f"--clone-from: cannot push to DVC's remote: {' '.join(tail(output).split())}")
                self._pushed.update(new)
            source = self.source.to(tuple(graph.inputs[name]))
        return self.client.submit(
            work,
            Request(name, Path.cwd(), gpu, source, self.client.id, self.anew and of_a_run),
            key=f"{name} {time.time_ns()}",  # unique: another client of the scheduler may run a stage of the same name
            pure=False,
            retries=0,
            resources={GPU: 1} if gpu else None,
        )

    def _result(self, name: str, future: Any) -> Result:
        """Result of a stage that a worker ran. If it ran in a clone, its outputs are restored here.

        Raises StageFailedError if it failed there or cannot be restored here, UserError if the scheduler is gone.
        """
        if future.status == "cancelled" and self.client.status != "running":
            address = self.client.scheduler.addr if self.client.scheduler else ""
            raise UserError(
                f"the scheduler {address} is gone, its workers too; start them and run again: what is finished is kept"
            )
        if future.status != "finished":
            error = future.exception() if future.status == "error" else None
            raise error if isinstance(error, StageFailedError) else StageFailedError(name, str(error or future.status))
        result: Result = future.result()
        if self.source is not None:
            repro = ("--wait-for-lock", "repro", "--single-item", "--pull", name)
            status, output = PROCESSES.run(Path.cwd(), *repro, restore_only=True)
            if status:  # it would have had to run here
                raise StageFailedError(
                    name, f"a worker ran it, but its results could not be restored here\n{tail(output)}"
                )
        return result
