"""Who does the blocks: this process, with reading and writing beside the network, or Dask's workers."""

from __future__ import annotations

import functools
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Protocol

import torch

from cleft.core.errors import CleftError, DataError
from cleft.core.memory import trim_memory
from cleft.io.read import open_image
from cleft.prediction.model import Model, load_model
from cleft.volume import steps
from cleft.volume.blocks import BlockPredictor
from cleft.volume.store import RunStore

__all__ = ["DaskExecutor", "Engine", "LocalExecutor"]

log = logging.getLogger("cleft")
Done = Callable[[], None]
AHEAD = 2  # blocks read before the network asks for them


class Engine(Protocol):
    """Does blocks in any order; what a block leaves behind is on disk."""

    def find(self, work: RunStore, blocks: Sequence[int], done: Done) -> list[CleftError]:
        """Read blocks, classify them and keep their parts; the errors of blocks that can't be read."""

    def each(self, work: RunStore, step: str, blocks: Sequence[int], done: Done) -> None:
        """Do a later step of blocks: ``meet``, ``grow``, ``finish``, or ``level1`` and so on."""


class LocalExecutor:
    """This process: one thread reads ahead, the network runs, one keeps; later steps on several threads.

    Args:
        model: that the plan names.
        jobs: threads for the steps after the network.
    """

    def __init__(self, model: Model, jobs: int) -> None:
        self.model, self.jobs = model, jobs

    def find(self, work: RunStore, blocks: Sequence[int], done: Done) -> list[CleftError]:
        failed: list[CleftError] = []
        plan = work.plan
        with (
            open_image(plan.source, plan.axes, plan.given_spacing, plan.limit) as image,
            ThreadPoolExecutor(1) as reader,
            ThreadPoolExecutor(1) as keeper,
        ):
            finder = BlockPredictor(work, self.model, image)
            kept: deque[Future[None]] = deque()
            for reading in _ahead(reader, finder.read, blocks):
                try:
                    piece = reading.result()
                except DataError as error:  # of this block alone; the others go on
                    log.warning("%s", error)
                    failed.append(error)
                    continue
                classes = finder.classify(piece)
                if kept:
                    kept.popleft().result()
                    trim_memory()
                    done()
                kept.append(keeper.submit(finder.keep, piece, classes))
            for last in kept:
                last.result()
                done()
        self.model.compiled.clear()  # what other runtimes hold isn't needed for the steps that follow
        return failed

    def each(self, work: RunStore, step: str, blocks: Sequence[int], done: Done) -> None:
        with ThreadPoolExecutor(self.jobs) as pool:
            waiting: set[Future[None]] = set()
            for block in blocks:
                waiting.add(pool.submit(do_step, work, step, block))
                if len(waiting) > 2 * self.jobs:
                    waiting = _collect(waiting, done)
            while waiting:
                waiting = _collect(waiting, done)


def _collect(waiting: set[Future[None]], done: Done) -> set[Future[None]]:
    ready, rest = wait(waiting, return_when=FIRST_COMPLETED)
    for future in ready:
        future.result()
        done()
    trim_memory()
    return rest


def _ahead(
    pool: ThreadPoolExecutor, read: Callable[[int], Any], blocks: Iterable[int]
) -> Iterator[Future[Any]]:
    """Futures of what is read, a few of them under way."""
    waiting: deque[Future[Any]] = deque()
    for block in blocks:
        waiting.append(pool.submit(read, block))
        if len(waiting) >= AHEAD:
            yield waiting.popleft()
    yield from waiting


class DaskExecutor:
    """Workers of ``dask.distributed``; all see the same files. One that dies costs its blocks' time only.

    Args:
        client: of the scheduler.
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    def find(self, work: RunStore, blocks: Sequence[int], done: Done) -> list[CleftError]:
        results = self._run(_find_one, work, [(i,) for i in blocks], done)
        return [DataError(message) for message in results if message]

    def each(self, work: RunStore, step: str, blocks: Sequence[int], done: Done) -> None:
        self._run(_step_one, work, [(step, i) for i in blocks], done)

    def _run(self, function: Callable[..., Any], work: RunStore, tasks: list[tuple], done: Done) -> list[Any]:
        """Hand out tasks as workers come free: a scheduler that holds millions of them is slow."""
        from distributed import as_completed

        todo, results = iter(tasks), []
        n = 4 * max(1, sum(self.client.nthreads().values()))
        folder = str(work.folder.resolve())
        # not pure: a task whose files are gone must not be taken for done
        submit = functools.partial(self.client.submit, function, folder, pure=False)
        running = as_completed([submit(*task) for task in itertools.islice(todo, n)])
        for future in running:
            results.append(future.result())
            done()
            future.release()
            for task in itertools.islice(todo, 1):
                running.add(submit(*task))
        return results


@functools.lru_cache(maxsize=1)
def _finder(folder: str) -> BlockPredictor:
    """Of a worker: network and image stay open between its blocks; each worker of a machine takes a card."""
    work = RunStore.open(Path(folder))
    plan = work.plan
    model = load_model(plan.models, _own_card(), plan.tta)
    return BlockPredictor(work, model, open_image(plan.source, plan.axes, plan.given_spacing, plan.limit))


def _own_card() -> str:
    """The device of a worker: of several cards the one that its number among the workers gives."""
    from distributed import get_worker

    cards, name = torch.cuda.device_count(), str(get_worker().name)
    return f"cuda:{int(name) % cards}" if cards > 1 and name.isdecimal() else "auto"


def _find_one(folder: str, block: int) -> str:
    """A block on a worker; what is wrong with its pixels, if anything."""
    finder = _finder(folder)
    try:
        piece = finder.read(block)
    except DataError as error:
        return str(error)
    finder.keep(piece, finder.classify(piece))
    return ""


@functools.lru_cache(maxsize=1)
def _work(folder: str) -> RunStore:
    """Of a worker: its arrays stay open between blocks."""
    return RunStore.open(Path(folder))


def _step_one(folder: str, step: str, block: int) -> None:
    do_step(_work(folder), step, block)


def do_step(work: RunStore, step: str, block: int) -> None:
    """One of the steps after the network, for one block."""
    if step.startswith("level"):
        steps.coarsen(work, int(step.removeprefix("level")), block)
    else:
        {"met": steps.meet, "grown": steps.grow_block, "finished": steps.finish}[step](work, block)
