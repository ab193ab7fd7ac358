"""Which stages wait, which run, which are done; those that are free go to Dask workers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.parallel.clones import Source
from pipeline.parallel.dvc import outcome
from pipeline.parallel.dvc_process import StageFailedError, tail
from pipeline.parallel.graph import Graph
from pipeline.parallel.progress import Progress
from pipeline.parallel.worker import PROCESSES, Request, Result, perform, work
from pipeline.support.errors import UserError

#: The stages that use a GPU, where there is one to use.
ON_GPU = ("train", "eigenspectrum")
#: The Dask resource that stands for one.
GPU = "GPU"


class Scheduler:
    """Hands stages out.

    keep_going: after a failure run what does not depend on it. gpu: runs take a GPU each. source: runs go to clones of it;
    all other stages (plan, data, tables, figures) then run here.
    """

    def __init__(self, client: Any, keep_going: bool, gpu: bool, source: Source | None) -> None:
        self.client, self.keep_going, self.gpu, self.source = client, keep_going, gpu, source
        self.failed: dict[str, str] = {}
        self.done: dict[str, Result] = {}
        self.graph = Graph({}, frozenset())
        self._sent: set[str] = set()

    def run(self, stages: Mapping[str, Sequence[str]], graph: Graph) -> None:
        """Run stages of the graph in the order that their dependencies allow; adds to `done` and `failed`.

        stages: each with those of them that it depends on.
        """
        self.graph, total = graph, len(self.done) + len(stages)
        from distributed import as_completed

        waiting = {name: set(below) for name, below in stages.items()}
        names: dict[str, str] = {}
        handed: dict[str, Any] = {}
        completed = as_completed()
        with Progress(self.client) as progress:

            def hand_out() -> None:
                while free := [name for name, below in waiting.items() if not below]:
                    for name in free:
                        del waiting[name]
                    here = [name for name in free if self.source is not None and "@" not in name]
                    for name in free:
                        if name not in here:
                            future = self._submit(name)
                            names[future.key], handed[name] = name, future
                            completed.add(future)
                    for name in here:
                        progress.begun(name, "here")
                        try:
                            settle(name, perform(Request(name, Path.cwd()), 1), "")
                        except StageFailedError as error:
                            settle(name, None, error.tail)
                    if self.failed and not self.keep_going:
                        return

            def settle(name: str, result: Result | None, words: str) -> None:
                progress.ended(name)
                if result is None:
                    self.failed[name] = words
                    progress.say(f"{name}: FAILED\n{words}")
                    lost = {name}
                    for other, below in list(waiting.items()):  # in order: what it depends on comes first
                        if below & lost:
                            lost.add(other)
                            del waiting[other]
                    return
                self.done[name] = result
                for below in waiting.values():
                    below.discard(name)
                did = "" if result.did == "ran" else f", {result.did}"
                progress.say(f"{name}: {result.seconds:.1f} s{did}   ({len(self.done)} of {total})")

            try:
                hand_out()
                for future in completed:
                    name = names[future.key]
                    settle(name, *self._outcome(name, handed.pop(name)))
                    if self.failed and not self.keep_going:
                        return
                    hand_out()
            finally:
                self.client.cancel(list(handed.values()), force=True)

    def _submit(self, name: str) -> Any:
        gpu = self.gpu and name.partition("@")[0] in ON_GPU
        source = None
        if self.source is not None:
            # Whole outputs: DVC takes a folder of which it has pushed one file for pushed.
            new = [below for below in self.graph.stages[name] if "@" not in below and below not in self._sent]
            if new:
                status, output = self._dvc("push", *new)
                if status:
                    raise UserError(f"--clone-from: cannot push to DVC's remote: {' '.join(tail(output).split())}")
                self._sent.update(new)
            source = self.source.to(tuple(self.graph.inputs[name]))
        return self.client.submit(
            work,
            Request(name, Path.cwd(), gpu, source),
            key=f"{name} {time.time_ns()}",  # another client of the scheduler may run the same stage elsewhere
            pure=False,
            retries=0,
            resources={GPU: 1} if gpu else None,
        )

    def _outcome(self, name: str, future: Any) -> tuple[Result | None, str]:
        """The result; or None, and why there is none."""
        if future.status != "finished":
            error = future.exception() if future.status == "error" else None
            return None, error.tail if isinstance(error, StageFailedError) else str(error or future.status)
        result: Result = future.result()
        if self.source is not None:
            _, output = self._dvc("--wait-for-lock", "repro", "--single-item", "--pull", name)
            if outcome(output) != "restored":
                return None, f"a worker ran it, but its results could not be restored here\n{tail(output)}"
        return result, ""

    def _dvc(self, *arguments: str) -> tuple[int, str]:
        with PROCESSES.one(Path.cwd()) as process:
            return process.do([arguments], {})
