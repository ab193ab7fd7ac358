"""The command line of `pipeline.parallel`."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.config import read_configuration, resolve_run
from pipeline.config.arguments import Parser, cores, jobs
from pipeline.parallel.dvc import RUNNING, lock_in_order
from pipeline.parallel.graph import read_graph
from pipeline.parallel.worker import Result
from pipeline.support.errors import UserError, run_stage


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stale stages in parallel, then verify with `dvc repro`.

    Args:
        arguments: The command-line arguments; None means those of this process.

    Raises:
        UserError: if the configuration, a target or an option is wrong, if another `pipeline.parallel` is at work in
            this folder, if a stage fails, or if `dvc repro` finds more to do.
    """
    parser = Parser(
        "pipeline.parallel",
        "Run the stale stages of dvc.yaml side by side, on this machine or on a Dask cluster.",
        epilog="docs/running.md tells more.",
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="stages, as train or train@tag-1 (default: all)")
    parser.add_argument("-j", "--jobs", type=jobs, default=cores(), help="stages at once (default: the cores)")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="address of a running Dask scheduler, such as tcp://host:8786"
    )
    parser.add_argument(
        "--clone-from", metavar="URL", help="workers run in clones of this Git repository; results come by DVC's remote"
    )
    parser.add_argument(
        "--gpu", action="store_true", help="a stage of train and eigenspectrum waits for a GPU of its own"
    )
    parser.add_argument("--dry", action="store_true", help="only list the stages that would run")
    parser.add_argument("--keep-going", action="store_true", help="after a failure run what does not depend on it")
    given = parser.parse_args(arguments)
    start = time.monotonic()
    _check_files()
    graph = read_graph(given.targets)
    if given.dry or not graph.stale():
        print("\n".join(graph.stale()) or "nothing to do: everything is up to date")
        return

    from pipeline.parallel.clones import source_of_here
    from pipeline.parallel.cluster import connected
    from pipeline.parallel.scheduler import Scheduler
    from pipeline.parallel.worker import PROCESSES

    source = source_of_here(given.clone_from) if given.clone_from else None
    with (
        _alone(),
        lock_in_order(list(graph.stages)),
        connected(given.jobs, given.scheduler, given.gpu) as client,
    ):
        scheduler = Scheduler(client, given.keep_going, given.gpu, source)
        while stages := graph.next():
            scheduler.run(stages, graph)
            if scheduler.failed:
                raise UserError(f"failed: {', '.join(scheduler.failed)}; fix the cause and run again")
            if len(stages) < len(graph.stale()):  # if all stale stages have run, asking DVC once at the end is enough
                graph = read_graph(given.targets)
            graph = graph.without(scheduler.done)
        status, output = PROCESSES.run(Path.cwd(), "repro", *given.targets)
        if status or RUNNING in output:
            raise UserError(f"'dvc repro' found more to do: {output[-800:]}; run it again")
    print(_summary(scheduler.done, time.monotonic() - start))


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold this folder's lock during the block.

    Raises UserError if another `pipeline.parallel` holds it: both would run the same stages.
    """
    lock = FileLock(Path(".dvc/tmp/side-by-side.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"another pipeline.parallel is running in this folder ({lock.lock_file} is locked); wait for it or end it"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _check_files() -> None:
    """Raise UserError if this is no DVC repository, or if `plan` would refuse the configuration files.

    DVC's own message about a failed `plan` fills a whole screen.
    """
    if not Path(".dvc").is_dir():
        raise UserError("no DVC repository here; run it in the project's folder")
    if Path("params.yaml").exists():
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


if __name__ == "__main__":
    run_stage("repro", main)
