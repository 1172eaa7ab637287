"""Times a function call by call; used in the other package's environment too, so it needs NumPy alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

try:
    from resource import RUSAGE_THREAD, getrusage
except ImportError:  # only Linux counts by thread
    getrusage = None  # type: ignore[assignment]

Times = list[tuple[int, int, int]]
"""Of each call: wall nanoseconds, processor nanoseconds, and how often the system took the core away meanwhile.

The last tells noise of a shared machine from waiting of our own, which gives the core up by itself: for the GIL, for
a disk, for an accelerator."""

MATRIX = 448  # a product of this size takes a core a few milliseconds, and all of its inner caches


class Timed:
    """Calls a function with row after row."""

    def __init__(self, call: Callable[[dict[str, Any]], object]) -> None:
        self._call = call
        self._matrix = np.random.default_rng(0).random((MATRIX, MATRIX))

    def __call__(self, rows: Iterable[dict[str, Any]], paced: bool) -> Times:
        """Time each call; `paced`, after some milliseconds of work that gives up the GIL, as a training step does."""
        call, wall, processor, matrix = self._call, time.perf_counter_ns, time.thread_time_ns, self._matrix
        times = []
        for row in rows:
            if paced:
                np.matmul(matrix, matrix)
            taken = _taken()
            used, start = processor(), wall()
            call(row)
            end = wall()
            times.append((end - start, processor() - used, _taken() - taken))
        return times


def _taken() -> int:
    """How often the system took the core away from this thread."""
    return getrusage(RUSAGE_THREAD).ru_nivcsw if getrusage is not None else 0
