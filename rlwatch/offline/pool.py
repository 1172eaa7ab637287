"""Replays of many runs, one after the other or a process a core; the results in the order of the runs."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from rlwatch.offline.replay import Replay, replay

WORTH_IT = 4 * 2**20
"""Bytes of logs below which a second process costs more than it saves (it takes about a second to start)."""


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes_for(runs: Sequence[str], jobs: int) -> int:
    """How many processes the work is worth: 1 for little of it."""
    if min(jobs, len(runs)) < 2 or sum(map(_size, runs)) < WORTH_IT:
        return 1
    return min(jobs, len(runs))


def _size(run: str) -> int:
    try:
        path = Path(run.rpartition("#")[0] or run)
        if path.is_dir():
            return sum(file.stat().st_size for file in path.glob("*") if file.is_file())
        return path.stat().st_size
    except (OSError, ValueError):
        return 0


class Pool:
    """Worker processes that replay runs; use as a context manager, which ends them at once."""

    def __init__(self, runs: Sequence[str], jobs: int, **options: object) -> None:
        self._runs = runs
        self._others = set(multiprocessing.active_children())
        self._pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _ignore_interrupts)
        work = partial(replay, **options)  # type: ignore[arg-type]
        self._futures: list[Future[Replay]] = [self._pool.submit(work, run) for run in runs]

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for worker in set(multiprocessing.active_children()) - self._others:
            worker.terminate()

    def results(self, tick: Callable[[int], None]) -> Iterator[Replay]:
        """Each run's, in their order; a run whose process died is unreadable. `tick` takes the number done so far."""
        for run, future in zip(self._runs, self._futures, strict=True):
            while not wait([future], timeout=0.5).done:
                tick(self.finished)
            try:
                yield future.result()
            except BrokenProcessPool:
                yield Replay(run, error="a worker process died, for want of memory perhaps: try --jobs 1")

    def done_after(self, count: int) -> list[Replay]:
        """The results that are there already, from run number `count` on."""
        ready = [future for future in self._futures[count:] if future.done() and not future.cancelled()]
        return [future.result() for future in ready if future.exception() is None]

    @property
    def finished(self) -> int:
        """How many runs are done."""
        return sum(future.done() for future in self._futures)


def _ignore_interrupts() -> None:
    """Ctrl-C reaches the whole process group: the parent decides what it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
