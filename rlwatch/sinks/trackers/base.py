"""What all trackers share: which numbers, when, and off the training thread.

| key | value |
|---|---|
| `rlwatch/severity` | of the row: 0, 1 (warning), 2 (critical) |
| `rlwatch/<detector>/severity` | the same of one detector; from its first alert on |
| `rlwatch/action` | 0 continue, 1 skip, 2 rollback, 3 halt |
| `rlwatch/alerts` | alerts so far |
| `rlwatch/health` | 1; 0.5 for 64 rows after a warning, 0 after a critical |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from rlwatch.alert import Action, Alert, Severity, Verdict
from rlwatch.redact import redact_text
from rlwatch.sinks.base import BaseSink
from rlwatch.sinks.writer import BackgroundWriter, Trouble

if TYPE_CHECKING:
    from pathlib import Path

    from rlwatch.observation import Observation

EVERY = 25
"""Rows between two points of the numbers while nothing happens."""
OPEN = 64
"""Rows without an alert after which the run counts as healthy again, as for an incident."""
LIMIT = 512
"""Calls that may wait for a tracker that does not answer; further ones are dropped, and that is said."""
CLOSE_S = 5.0

_RANKS = {Severity.WARNING: 1.0, Severity.CRITICAL: 2.0}


class TrackerError(Exception):
    """A tracker that cannot be used; the text says why and what to do."""


class Tracker(BaseSink):
    """Base of the trackers. A subclass writes, on a thread of its own: there it may block, and raise.

    A subclass has `found`, `scalars`, `mark` and, where there is something to finish, `finish`.
    """

    def __init__(self, on_trouble: Callable[[str], object] = str) -> None:
        name = type(self).__name__
        trouble = Trouble(lambda text: on_trouble(f"{name}: {redact_text(text)}"))
        self._writer = BackgroundWriter(trouble, limit=LIMIT)
        self._writer.start(_nothing)
        self._next = self._count = 0
        self._open: dict[str, tuple[int, float]] = {}
        self._step, self._told = 0, False

    @classmethod
    def found(cls, given: Any, run_dir: Path | None) -> tuple[Any, ...] | None:
        """What the constructor needs for the run that the tracker has open in this process; None if it has none.

        given: what an adapter knows: a writer, or a function that gives it.
        """
        raise NotImplementedError

    @classmethod
    def opened(cls, given: Any, run_dir: Path | None) -> tuple[Any, ...]:
        """The same for a tracker that the settings name; raises TrackerError where it has no run open."""
        arguments = cls.found(given, run_dir)
        if arguments is None:
            raise TrackerError("it has no run open here at the first row: open it before, or pass the sink itself")
        return arguments

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers."""
        raise NotImplementedError

    def mark(self, title: str, text: str, level: str, step: int) -> None:
        """Write an alert, or what was done to the run. level: `info`, `warning`, `critical`."""
        raise NotImplementedError

    def finish(self, text: str, step: int) -> None:
        """The run ends; `text` is what is said of it."""

    def step(self, obs: Observation, verdict: Verdict) -> None:
        """Queue the numbers where they changed, else now and then."""
        if obs.row < self._next and not verdict.alerts and verdict.action is Action.CONTINUE:
            return
        self._step = obs.step
        values = self._values(obs.row, verdict)
        # The row after one that says something brings the numbers back, so that a picture has a peak and no plateau.
        loud = bool(verdict.alerts) or verdict.action is not Action.CONTINUE
        self._next = obs.row + (1 if loud else EVERY)
        # At once: a trainer closes its writer as soon as it ends.
        self._writer.put((self.scalars, (values, obs.step)), urgent=True)

    def alert(self, alert: Alert) -> None:
        """Queue an alert as text."""
        first = f"\nDo first: {alert.remedy}" if alert.remedy else ""
        page = f"\nPlaybook: {alert.playbook}" if alert.playbook else ""
        title = f"rlwatch: {alert.detector} at step {alert.step}"
        self._mark(title, f"{alert.message}{first}{page}", alert.severity.value, alert.step)

    def event(self, event: Mapping[str, Any]) -> None:
        """Queue what was done to the run."""
        kind, step = str(event.get("event")), int(event.get("step", self._step))
        level = {"rollback": "critical", "halt": "critical", "stall": "critical", "resumed": "info"}.get(
            kind, "warning"
        )
        self._mark(f"rlwatch: {kind} at step {step}", str(event.get("message", "")), level, step)

    def close(self, summary: Mapping[str, Any]) -> None:
        """Write what is left, waiting CLOSE_S at most."""
        if self._writer.closed:
            return
        titles = [str(one.get("title")) for one in summary.get("incidents") or []]
        text = redact_text("\n".join(titles)) or "no alert"
        self._writer.put((self.finish, (text, int(summary.get("step", self._step)))), urgent=True)
        self._writer.stop(CLOSE_S)

    def _mark(self, title: str, text: str, level: str, step: int) -> None:
        self._writer.put((self.mark, (redact_text(title), redact_text(text), level, step)), urgent=True)

    def _values(self, row: int, verdict: Verdict) -> dict[str, float]:
        now = {alert.detector: _RANKS[alert.severity] for alert in verdict.alerts}
        self._count += len(verdict.alerts)
        self._open.update({name: (row, rank) for name, rank in now.items()})
        open_now = [rank for last, rank in self._open.values() if row - last < OPEN]
        values = {
            "rlwatch/severity": max(now.values(), default=0.0),
            "rlwatch/action": float(verdict.action.rank),
            "rlwatch/alerts": float(self._count),
            "rlwatch/health": 1.0 - max(open_now, default=0.0) / 2,
        }
        return values | {f"rlwatch/{name}/severity": now.get(name, 0.0) for name in self._open}


def _nothing() -> None:
    pass
