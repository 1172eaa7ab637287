"""A daemon thread that does the slow work: encoding and disk.

The training thread appends a job to a bounded queue and goes on. The thread wakes every `interval` seconds,
or at once for an urgent job, and works in short chunks: Python's threads share one lock (the GIL), and a
training thread that comes back from a kernel should not find it taken for long. Behind a loop of a thousand
steps a second and more it works in chunks as long as the interpreter's own switch interval instead: few
steps wait for it then, and it keeps up.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

CHUNK = 200e-6  # seconds of work between two pauses
LONG_CHUNK = 5e-3
PAUSE = 50e-6  # sleep(0) gives the lock up, but takes it back before the other thread has woken
BEHIND = 256  # waiting jobs from which on chunks are long
CROWDED = 1024  # and from which on they do not wait for the next tick
RESERVE = 256  # places above the limit, for urgent jobs
EXIT_WAIT = 5.0

Job = tuple[Callable[..., object], tuple[Any, ...]]


class Trouble:
    """Says what went wrong, the first time; stays silent about what follows from it."""

    def __init__(self, tell: Callable[[str], object]) -> None:
        self.first: str | None = None
        self._tell = tell

    def __call__(self, text: str) -> None:
        if self.first is None:
            self.first = text
            with contextlib.suppress(Exception):
                self._tell(f"{text}; training goes on")


class BackgroundWriter:
    """Runs jobs `(function, args)` in order, on one daemon thread.

    trouble: gets a line, from whichever thread meets it.
    limit: jobs that may wait; more are dropped and counted, so that a disk that hangs costs no memory.

    A forked child inherits the object but no thread, and refuses all jobs.
    """

    def __init__(self, trouble: Callable[[str], object], *, limit: int = 4096, interval: float = 0.25) -> None:
        self._trouble = trouble
        self._limit, self._crowded, self._interval = limit, min(CROWDED, limit), interval
        self._flush: Callable[[], object] = _nothing
        self._jobs: deque[Job] = deque()
        # A bare lock as a binary semaphore: unlike an Event, it can be set from a signal handler.
        self._asleep = threading.Lock()
        self._asleep.acquire()
        self._stopping = self._closed = self._forked = False
        self._refused = self._failed = 0
        self._thread = threading.Thread(target=self._run, name="rlwatch-writer", daemon=True)

    @property
    def dropped(self) -> int:
        """Jobs that were not done: refused, or failed."""
        return self._refused + self._failed

    @property
    def closed(self) -> bool:
        """Whether jobs are refused: stopped, dead, or in a forked child."""
        return self._closed

    def __len__(self) -> int:
        return len(self._jobs)

    def behind(self) -> bool:
        """Whether so much waits that work which can be left out should be."""
        return len(self._jobs) >= BEHIND

    def start(self, flush: Callable[[], object]) -> None:
        """Begin; `flush` is called on the thread after each chunk and each tick."""
        self._flush = flush
        try:
            self._thread.start()
        except RuntimeError:  # no threads left, or the interpreter is shutting down
            self._closed = True
            raise
        _LIVE.add(self)

    def put(self, job: Job, urgent: bool = False) -> None:
        """Queue a job, in well under a microsecond; never blocks, never raises."""
        waiting = len(self._jobs)
        if waiting < self._crowded and not urgent and not self._closed:
            self._jobs.append(job)
        else:
            self._put_slowly(job, waiting, urgent)

    def _put_slowly(self, job: Job, waiting: int, urgent: bool) -> None:
        if self._closed or waiting >= self._limit + RESERVE * urgent:
            self._refused += 1
            if self._forked:
                self._trouble("this is a fork of the process that is recorded, its steps are not")
            elif not self._closed:
                self._trouble(f"the record is {waiting} rows behind the loop, further ones are dropped")
            return
        self._jobs.append(job)
        self._wake()

    def stop(self, timeout: float) -> bool:
        """Finish what is queued, waiting at most `timeout` seconds; True if the thread has ended."""
        self._stopping = True
        if self._closed or self._thread is threading.current_thread():
            return not self._thread.is_alive()
        if self._thread.ident is not None:
            self._wake()
            self._thread.join(timeout)
        self._closed = True
        return not self._thread.is_alive()

    def request_stop(self) -> None:
        """Finish what is queued, in its own time."""
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        if self._asleep.locked():
            with contextlib.suppress(RuntimeError):  # woken by another thread in between
                self._asleep.release()

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._asleep.acquire(timeout=self._interval)
                self._drain()
            self._drain()
        except BaseException as error:  # noqa: BLE001 - said, then counted
            self._trouble(f"the thread that writes the run's record died ({error!r}), recording ends")
        finally:
            self._closed = True
            self._failed += len(self._jobs)
            self._jobs.clear()

    def _drain(self) -> None:
        hurry = False
        while self._jobs:
            hurry = hurry or self.behind()
            self._chunk(time.perf_counter() + (LONG_CHUNK if hurry else CHUNK))
            self._do(self._flush)
            # Against a busy thread each pause costs a switch interval; the write was one already.
            if not (hurry or self._stopping):
                time.sleep(PAUSE)
        self._do(self._flush)

    def _chunk(self, end: float) -> None:
        while self._jobs:
            function, args = self._jobs.popleft()
            self._do(function, *args)
            if time.perf_counter() >= end:
                return

    def _do(self, function: Callable[..., object], *args: Any) -> None:
        try:
            function(*args)
        except Exception as error:  # noqa: BLE001 - one bad record must not cost the others
            self._failed += 1
            self._trouble(f"a record could not be written ({error!r}), it is dropped")

    def _become_child(self) -> None:
        self._closed = self._forked = True


def _nothing() -> None:
    pass


_LIVE: weakref.WeakSet[BackgroundWriter] = weakref.WeakSet()


def _stop_all() -> None:
    """At exit, after an uncaught exception too: daemon threads still run while exit handlers do."""
    end = time.monotonic() + EXIT_WAIT
    for writer in list(_LIVE):
        writer.stop(max(0.0, end - time.monotonic()))


def _after_fork() -> None:
    for writer in list(_LIVE):
        writer._become_child()


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
