"""Who does the blocks: threads of this process, or Dask's workers; one loop hands them out."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cleft.core.errors import CleftError
from cleft.core.memory import trim_memory
from cleft.labels.blockwise import Step
from cleft.volume.store import RunStore

__all__ = ["ClusterOptions", "dask_executor", "run_step"]

log = logging.getLogger("cleft")


@dataclass(frozen=True)
class ClusterOptions:
    """Which of Dask's workers do the blocks (needs ``cleft[dask]``); none of them: this process.

    Args:
        scheduler: address of a scheduler that runs, such as ``tcp://node7:8786``.
        workers: to start: processes of this machine, which share its processors (a graphics card each, if
            there are any), or Slurm jobs.
        slurm: start them as Slurm jobs, each as dask-jobqueue's own configuration says.
    """

    scheduler: str | None = None
    workers: int | None = None
    slurm: bool = False

    def __bool__(self) -> bool:
        return self.scheduler is not None or self.workers is not None or self.slurm


def run_step(
    store: RunStore,
    step: Step,
    executor: Executor,
    in_flight: int,
    progress: Callable[[str, int, int], None],
) -> list[str]:
    """Do what is left of a step, a bounded number of blocks at once, in any order.

    Args:
        store: of the run.
        step: prepared.
        executor: to do the blocks; of another process it gets the store by the name of its folder.
        in_flight: blocks handed out at once.
        progress: called with the step's title, the blocks done and those there are.

    Returns:
        The reasons of the blocks that can't be read.
    """
    count = step.count(store)
    pending = store.pending(step.name, count)
    done = count - len(pending)
    progress(step.title, done, count)
    unreadable: list[str] = []
    waiting: set[Future[str | None]] = set()
    blocks = iter(pending)
    try:
        while True:
            more = itertools.islice(blocks, in_flight - len(waiting))
            waiting |= {executor.submit(step.run, store, block) for block in more}
            if not waiting:
                return unreadable
            ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in ready:
                if reason := future.result():
                    log.warning("%s", reason)
                    unreadable.append(reason)
                done += 1
                progress(step.title, done, count)
            trim_memory()
    finally:
        for future in waiting:
            future.cancel()


@contextmanager
def dask_executor(options: ClusterOptions) -> Iterator[Executor]:
    """Dask's workers as a standard executor; they are stopped at the end if they were started here.

    Workers see the same files; one that dies costs its blocks' time alone.

    Raises:
        CleftError: dask isn't installed, or the scheduler doesn't answer.
    """
    with dask_client(options) as client:
        yield client.get_executor(pure=False)  # a block whose files are gone must not be taken for done


@contextmanager
def dask_client(options: ClusterOptions) -> Iterator[Any]:
    """A client of Dask's workers.

    Raises:
        CleftError: as ``dask_executor``.
    """
    try:
        from distributed import Client, LocalCluster
    except ModuleNotFoundError as error:
        raise CleftError("Dask is not installed; pip install 'cleft[dask]'") from error
    if options.scheduler is not None:
        try:
            client = Client(options.scheduler, timeout=10)
        except (OSError, TimeoutError, ValueError) as error:
            raise CleftError(f'no Dask scheduler answers at "{options.scheduler}" ({error})') from error
        with client:
            yield client
        return
    n = options.workers or 1
    if options.slurm:
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
