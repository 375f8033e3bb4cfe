"""Dask's workers: on this machine, at a scheduler's address, or as Slurm jobs (needs ``cleft[dask]``)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cleft.core.errors import CleftError

__all__ = ["dask_client"]


@contextmanager
def dask_client(scheduler: str | None, workers: int | None, slurm: bool) -> Iterator[Any]:
    """A client of Dask's workers, which are stopped at the end if they were started here.

    Args:
        scheduler: address of one that runs, such as ``tcp://node7:8786``.
        workers: to start: processes of this machine, which share its processors (a graphics card each, if
            there are any), or Slurm jobs.
        slurm: start them as Slurm jobs, each as dask-jobqueue's own configuration says.

    Raises:
        CleftError: dask isn't installed, or the scheduler doesn't answer.
    """
    try:
        from distributed import Client, LocalCluster
    except ModuleNotFoundError as error:
        raise CleftError("Dask is not installed; pip install 'cleft[dask]'") from error
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=10)
        except (OSError, TimeoutError, ValueError) as error:
            raise CleftError(f'no Dask scheduler answers at "{scheduler}" ({error})') from error
        with client:
            yield client
        return
    n = workers or 1
    if slurm:
        from dask_jobqueue import SLURMCluster

        cluster: Any = SLURMCluster(scheduler_options={"dashboard_address": ":0"})
        cluster.scale(jobs=n)
    else:
        threads = str(max(1, (os.cpu_count() or 1) // n))
        # each worker's libraries would else take every processor
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
        cluster = LocalCluster(
            n_workers=n, threads_per_worker=1, dashboard_address=":0", memory_limit=0,
            env=dict.fromkeys(names, threads),
        )  # fmt: skip
    with cluster, Client(cluster) as client:
        yield client
