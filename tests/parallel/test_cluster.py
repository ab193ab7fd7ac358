"""The workers of this process."""

from __future__ import annotations

import dask
from distributed import LocalCluster

from pipeline.parallel.cluster import HERE, SELDOM


def test_a_worker_is_not_forgotten_while_the_process_is_stopped() -> None:
    """A laptop that sleeps for longer than the scheduler waits for a heartbeat must not leave the run waiting for ever."""
    with (
        dask.config.set(SELDOM),
        LocalCluster(
            n_workers=0, processes=False, dashboard_address=HERE, worker_dashboard_address=HERE
        ) as cluster,
    ):  # fmt: skip
        assert cluster.scheduler.worker_ttl is None
