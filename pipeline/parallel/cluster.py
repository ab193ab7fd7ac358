"""Connect to Dask workers: threads of this process, or the workers of a running scheduler."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.config.arguments import cores
from pipeline.parallel.scheduler import GPU
from pipeline.parallel.worker import PROCESSES, end_processes, gpus
from pipeline.support.errors import UserError

#: Address of Dask's dashboards: this machine only, any free port. By default they listen on every network interface.
HERE = "127.0.0.1:0"
#: Dask monitors itself a hundred times a second, which takes 4 % of a core from the stages. Once a second takes 1 %.
SELDOM = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "1s",
    # After five minutes without a heartbeat the scheduler would forget the worker, and wait for another for ever: as when a
    # laptop has slept, or the process was stopped. The worker here is a thread of the same process.
    "distributed.scheduler.worker-ttl": None,
}


@contextlib.contextmanager
def connected(jobs: int, scheduler: str | None, gpu: bool) -> Iterator[Any]:
    """Yield a Dask client. However the block ends, nothing that the workers ran for it is left running.

    Args:
        jobs: Number of worker threads to start in this process; not used with a `scheduler`.
        scheduler: Address of a running scheduler; None starts the workers in this process.
        gpu: Whether stages will ask for GPUs.

    Raises:
        UserError: if no scheduler answers at the address, or if stages will ask for GPUs and there is none.
    """
    import dask
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if scheduler is None:
        if gpu and not gpus():
            raise UserError("--gpu: PyTorch finds no GPU on this machine; leave --gpu out")
        PROCESSES.start(Path.cwd(), min(jobs, cores()))
        with (
            dask.config.set(SELDOM),
            LocalCluster(
                n_workers=1, threads_per_worker=jobs, processes=False, memory_limit=0,
                dashboard_address=HERE, worker_dashboard_address=HERE,
                resources={GPU: len(gpus())} if gpu else None,
            ) as cluster,
            Client(cluster) as client,
        ):  # fmt: skip
            try:
                yield client
            finally:
                PROCESSES.end(for_good=True)  # before Dask closes the cluster, which waits for its threads
        return
    try:
        client = Client(scheduler, timeout=10)
    except TypeError as error:
        if not scheduler.startswith("tls://"):
            raise
        raise UserError(
            f"--scheduler {scheduler}: {error}; give Dask its certificates: distributed.comm.tls in its configuration, or "
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE and the like in the environment"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"--scheduler {scheduler}: no scheduler answers ({error}); start one, or correct the address"
        ) from None
    with client:
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        if not workers:
            print(f"repro: {scheduler} has no worker yet; waiting for one", file=sys.stderr)
        elif gpu and not any(worker["resources"].get(GPU) for worker in workers):
            raise UserError(f'--gpu: no worker of {scheduler} offers one; start workers with --resources "{GPU}=1"')
        try:
            yield client
        except BaseException:
            if client.status == "running":  # else the scheduler is gone, and its workers have ended with it
                client.run(end_processes, client.id, on_error="ignore")
            raise
        finally:
            PROCESSES.end()
