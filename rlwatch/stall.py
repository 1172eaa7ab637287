"""The stall watch: says that no step has come for far longer than usual, and where every thread hangs.

A run that hangs (a collective that one rank never enters, a dead data loader, a reward server that does not answer)
raises nothing and logs nothing. A daemon thread looks at the clock of the last `Watch.log` every few seconds. It only
tells: once when a stall begins and once when steps come again.

Not taken for a stall: the time before the first steps (compiling, loading, a first long rollout), for which `GRACE`
holds; what happens inside `with watch.pause():`; and a pause of a length that was recovered from before, so that an
evaluation or a slow checkpoint is told the first time at most. While native code holds Python's global lock, nothing
in Python runs, this thread included.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from rlwatch.guest import logger

if TYPE_CHECKING:
    from rlwatch.watch import Watch

GRACE = 1800.0
"""Seconds that the first steps may take: nothing is known of this run yet."""

KNOWN = 5
"""Steps after which the usual time is known."""

USUAL, REMEMBERED = 64, 1024
"""Steps whose median is the usual time, and steps whose longest pause is remembered."""

RECOVERED = 1.5
"""Times the longest remembered pause that a stall must exceed."""

MAX_FRAMES = 60

Tell = Callable[[str, int, str, dict[str, Any]], None]
"""Gets the kind (`stall`, `resumed`), the step, a sentence, and facts."""


class StallWatch:
    """A heartbeat with a thread that listens to it.

    Args:
        tell: called on the thread.
        folder: the run's folder, or None while there is none.
        times: of the usual time without a step that are a stall.
        seconds: without a step that must have passed as well.
        tick: seconds between two looks at the clock.
    """

    def __init__(
        self,
        tell: Tell,
        folder: Callable[[], Path | None],
        *,
        times: float = 10.0,
        seconds: float = 60.0,
        tick: float | None = None,
    ) -> None:
        self._tell, self._folder = tell, folder
        self._times, self._seconds = times, seconds
        self._tick = min(5.0, seconds / 4) if tick is None else tick
        self._gaps: deque[float] = deque(maxlen=REMEMBERED)
        self._last = 0.0
        self._step = -1
        self._paused = 0
        self._told_at: float | None = None
        self._trainer = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def beat(self, step: int) -> None:
        """A step has come; well under a microsecond."""
        now = time.monotonic()
        if self._last:
            self._gaps.append(now - self._last)
            if self._thread is None:
                self._start()
        self._last = now
        self._step = step

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """What happens in here may take as long as it likes, and says nothing about the usual time."""
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1
            if self._last:
                self._last = time.monotonic()

    def stop(self) -> None:
        """Listen no more; does not wait for the thread."""
        self._stopping.set()

    @property
    def usual(self) -> float | None:
        """The usual seconds of a step; None while too few have been seen."""
        gaps = list(self._gaps)
        return statistics.median(gaps[-USUAL:]) if len(gaps) >= KNOWN else None

    @property
    def limit(self) -> float:
        """Seconds without a step from which on it is a stall."""
        usual = self.usual
        if usual is None:
            return max(GRACE, self._seconds)
        return max(self._seconds, self._times * usual, RECOVERED * max(self._gaps))

    def _start(self) -> None:
        self._trainer = threading.get_ident()
        self._thread = threading.Thread(
            target=_listen, args=(weakref.ref(self), self._stopping, self._tick), name="rlwatch-stall", daemon=True
        )
        with contextlib.suppress(RuntimeError):  # no threads left, or the interpreter is shutting down
            self._thread.start()

    def check(self) -> None:
        """Look at the clock."""
        last, step = self._last, self._step
        if self._told_at is not None:
            if last > self._told_at:
                silent = last - self._told_at
                self._told_at = None
                self._tell("resumed", step, f"a step came again after {_span(silent)}", {"seconds": silent})
            return
        silent = time.monotonic() - last
        if self._paused or silent <= self.limit or last != self._last:
            return
        self._told_at = last
        self._report(step, silent)

    def _report(self, step: int, silent: float) -> None:
        frames = sys._current_frames()
        place = _place(frames.get(self._trainer))
        usual = self.usual
        rate = f" (usually {_span(usual)})" if usual is not None else ""
        facts: dict[str, Any] = {"seconds": silent, "usual_seconds": usual, "place": place}
        message = f"no step for {_span(silent)}{rate}; the training thread is in {place}"
        if path := self._write(step, message, frames):
            facts["stacks"] = str(path)
            message += f"; the stacks of all threads: {path}"
        self._tell("stall", step, message, facts)

    def _write(self, step: int, message: str, frames: dict[int, FrameType]) -> Path | None:
        folder = self._folder()
        if folder is None:
            return None
        path = folder / "stalls" / f"{step}.txt"
        try:
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{message}\n\n{stacks(frames, self._trainer)}", encoding="utf-8", errors="replace")
        except OSError:
            return None
        return path


def stall_watch_of(watch: Watch) -> StallWatch:
    """The stall watch of a run: its events go where the Watch's go. It does not keep the Watch alive."""
    alive = weakref.ref(watch)

    def tell(kind: str, step: int, message: str, facts: dict[str, Any]) -> None:
        if (told := alive()) is None:
            return
        told.announce(kind, step, message, **facts)
        if not told.settings.main_process:  # no sinks here, and the stack that counts may be this rank's
            logger.warning("rlwatch: %s at step %d: %s", kind, step, message)

    def folder() -> Path | None:
        return None if (told := alive()) is None else told.run_dir

    return StallWatch(tell, folder, times=watch.settings.stall_times, seconds=watch.settings.stall_seconds)


def stacks(frames: dict[int, FrameType], first: int) -> str:
    """The stacks of all threads but this one, the thread `first` first, each with its innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    own = threading.get_ident()
    order = sorted((ident for ident in frames if ident != own), key=lambda ident: (ident != first, ident))
    parts = []
    for ident in order:
        lines = traceback.format_stack(frames[ident])[-MAX_FRAMES:]
        parts.append(f"thread {names.get(ident, '?')} ({ident})\n{''.join(lines)}")
    return "\n".join(parts)


def _place(frame: FrameType | None) -> str:
    if frame is None:
        return "no Python code any more: it has ended"
    return f"{frame.f_code.co_name} ({frame.f_code.co_filename}:{frame.f_lineno})"


def _span(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.3g} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _listen(of: weakref.ref[StallWatch], stopping: threading.Event, tick: float) -> None:
    while not stopping.wait(tick):
        watch = of()
        if watch is None:
            return
        with contextlib.suppress(Exception):  # the thread must not print a traceback into the run's output
            watch.check()
        del watch
