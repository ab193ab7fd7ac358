"""The command `repro`: the stale stages side by side, then `dvc repro` to verify that nothing is left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.config import read_configuration, resolve_run
from pipeline.config.arguments import cores
from pipeline.parallel.dvc import RUNNING, lock_in_order
from pipeline.parallel.graph import read_graph
from pipeline.parallel.worker import Result
from pipeline.support.alone import alone
from pipeline.support.errors import UserError

#: Locked during `repro`: two in one folder would run the same stages.
HERE = Path(".dvc/tmp/side-by-side.lock")


def repro(
    targets: Sequence[str] = (),
    jobs: int | None = None,
    scheduler: str | None = None,
    clone_from: str | None = None,
    gpu: bool = False,
    dry: bool = False,
    keep_going: bool = False,
    run_cache: bool = True,
) -> None:
    """Run the stale stages in parallel, then verify with `dvc repro`.

    Args:
        targets: Stages, as train or train@tag-1; none means all.
        jobs: Stages at once; None means as many as there are cores.
        scheduler: Address of a running Dask scheduler; None uses this machine alone.
        clone_from: Git repository that workers clone, to run stages there; None runs them in this folder.
        gpu: Whether a stage of train and eigenspectrum waits for a GPU of its own.
        dry: Whether only to list the stages that would run.
        keep_going: Whether to run, after a failure, what does not depend on it.
        run_cache: Whether DVC may take stages of train and eigenspectrum from its run-cache instead of running them.

    Raises:
        UserError: if the configuration or a target is wrong, if another `repro` is at work in this folder, if a stage
            fails, or if `dvc repro` finds more to do.
    """
    start = time.monotonic()
    _check_files()
    graph = read_graph(targets)
    if dry or not graph.stale():
        print("\n".join(graph.stale()) or "nothing to do: everything is up to date")
        return

    from pipeline.parallel.clones import source_of_here
    from pipeline.parallel.cluster import connected
    from pipeline.parallel.scheduler import Scheduler
    from pipeline.parallel.worker import PROCESSES

    source = source_of_here(clone_from) if clone_from else None
    with (
        alone(HERE, f"another 'tag-pipeline repro' is running in this folder ({HERE} is locked); wait for it"),
        lock_in_order(list(graph.stages)),
        connected(min(jobs or cores(), len(graph.stale())), scheduler, gpu) as client,
    ):
        dispatcher = Scheduler(client, keep_going, gpu, source, anew=not run_cache)
        while stages := graph.next():
            dispatcher.run(stages, graph)
            if dispatcher.failed:
                raise UserError(f"failed: {', '.join(dispatcher.failed)}; fix the cause and run again")
            if len(stages) < len(graph.stale()):  # if all stale stages have run, asking DVC once at the end is enough
                graph = read_graph(targets)
            graph = graph.without(dispatcher.done)
        status, output = PROCESSES.run(Path.cwd(), "repro", *targets)
        if status or RUNNING in output:
            raise UserError(f"'dvc repro' found more to do: {output[-800:]}; run it again")
    print(_summary(dispatcher.done, time.monotonic() - start))


def _check_files() -> None:
    """Raise UserError if this is no DVC repository, or if `plan` would refuse the configuration files.

    DVC's own message about a failed `plan` fills a whole screen, and without dvc.yaml it finds nothing to do.
    """
    if not Path(".dvc").is_dir():
        raise UserError("no DVC repository here; run it in the project's folder")
    if not Path("dvc.yaml").exists():
        raise UserError("dvc.yaml: missing; restore it, e.g. with 'git checkout -- dvc.yaml'")
    if Path("stages/plan.py").exists():  # this project's pipeline, not another with the same commands
        configuration = read_configuration()
        for method in configuration.params.methods:
            resolve_run(configuration, method)


def _summary(done: Mapping[str, Result], seconds: float) -> str:
    did = Counter(result.did for result in done.values())
    counts = ", ".join(f"{did[what]} {what}" for what in ("ran", "restored", "unchanged") if did[what])
    work = sum(result.seconds for result in done.values())
    longest = max(done, key=lambda name: done[name].seconds)
    return (
        f"{len(done)} stages ({counts}) in {seconds:.0f} s, one after the other {work:.0f} s; "
        f"longest {longest}, {done[longest].seconds:.0f} s; dvc repro finds nothing more to do"
    )
