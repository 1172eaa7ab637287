"""Trackio: the run that `trackio.init` opened."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rlwatch.sinks.trackers.base import Tracker

_LEVELS = {"info": "INFO", "warning": "WARN", "critical": "ERROR"}
MAX_HELD = 200


class TrackioSink(Tracker):
    """Logs numbers at the step of the user's last row, with `rlwatch/step`, and alerts as Trackio alerts.

    run: a `trackio.Run`. Trackio counts steps by the highest that it was given, so a row of ours at a step of its own
    would move the user's: numbers that come before the user's first row wait for it.
    """

    def __init__(self, run: Any, *, on_trouble: Callable[[str], object] = str) -> None:
        super().__init__(on_trouble)
        self._run = run
        self._levels: Any = sys.modules["trackio"].AlertLevel
        self._held: list[tuple[dict[str, float], int]] = []

    @classmethod
    def found(cls, given: Any, run_dir: Path | None) -> tuple[Any, ...] | None:
        """The current run of the calling context; trackio is not imported for it."""
        context = getattr(sys.modules.get("trackio"), "context_vars", None)
        run = given if given is not None or context is None else context.current_run.get()
        return None if run is None else (run,)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """With the user's last row."""
        self._held = [*self._held[-MAX_HELD:], ({**values, "rlwatch/step": float(step)}, step)]
        if (last := getattr(self._run, "_next_step", step + 1) - 1) >= 0:
            self._write(lambda step: last)

    def mark(self, title: str, text: str, level: str, step: int) -> None:
        """An alert."""
        self._run.alert(title=title, text=text, level=self._levels[_LEVELS.get(level, "WARN")], step=step)

    def finish(self, text: str, step: int) -> None:
        """The user has logged nothing: the numbers have their own steps."""
        self._write(lambda step: step)

    def _write(self, place: Callable[[int], int]) -> None:
        held, self._held = self._held, []
        for values, step in held:
            self._run.log(values, step=place(step))
