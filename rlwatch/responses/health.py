"""When a run was healthy: what alerts say about the states before and after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from rlwatch.alert import Alert, Severity

if TYPE_CHECKING:
    from rlwatch.detectors.base import Detector

ONSET = "rows_since_onset"
"""The entry of an alert's evidence that says how many rows ago the trouble began; else the detector's lag stands in."""

MAX_TRACES = 256

LOOK = 4
"""Rows from one look at quiet detectors to the next."""


class Standing(StrEnum):
    """What is known of the state that a run had at some row."""

    UNPROVEN = "unproven"
    HEALTHY = "healthy"
    SUSPECT = "suspect"
    POISONED = "poisoned"


@dataclass(slots=True)
class Trace:
    """A trouble: the rows from its onset to its end (None while it lasts) belong to it.

    `told` is the row of its alert and `step` the step; None where it came back within its cool-down and was not told.
    """

    detector: str
    severity: Severity
    onset: int
    told: int
    step: int | None = None
    end: int | None = None

    def covers(self, row: int) -> bool:
        """Whether the state at this row had the trouble in it."""
        return self.onset <= row and (self.end is None or row <= self.end)

    def __str__(self) -> str:
        when = "that came back" if self.step is None else f"at step {self.step}"
        return f"{self.detector} ({self.severity.value}) {when}, traced back {self.told - self.onset} rows"


class Health:
    """Judges rows of the past by the troubles found since.

    The state at a row is what the row's signals were measured on: the weights before its update. It is

    - poisoned, when a critical alert was traced to it or to a row before it, and was not over by then;
    - suspect, when a warning was;
    - healthy, when neither was and `lag` rows have passed, so that a trouble it had would have been told;
    - unproven, until then.

    A trouble is traced back from its alert by the rows that the alert's evidence gives (`ONSET`) or by its detector's
    `lag`, and lasts until the detector has seen it end.

    Args:
        detectors: by id, in use.
    """

    def __init__(self, detectors: Mapping[str, Detector]) -> None:
        self._detectors = detectors
        self._open: list[Trace] = []
        self._ended: list[Trace] = []
        self._since = 0
        self.row = -1
        self.lag = max((detector.lag for detector in detectors.values()), default=0)

    def judged(self, row: int, alerts: Sequence[Alert], troubled: bool = True) -> None:
        """A row was judged, with these alerts; `troubled` is whether a detector may have a trouble that lasts."""
        self.row = row
        for alert in alerts:
            onset = self._onset(row, alert)
            self._open.append(Trace(alert.detector, alert.severity, onset, row, alert.step))
        if self._open or (troubled and row % LOOK == 0):
            self._look(row)

    def _look(self, row: int) -> None:
        """End the troubles that are over; begin those that a cool-down keeps quiet."""
        lasting = {name: found for name, one in self._detectors.items() if (found := one.trouble) is not None}
        for trace in self._open:
            if trace.detector not in lasting:
                trace.end = row
        self._ended += [trace for trace in self._open if trace.end is not None]
        del self._ended[:-MAX_TRACES]
        self._open = [trace for trace in self._open if trace.end is None]
        for name, severity in lasting.items():
            if all(trace.detector != name for trace in self._open):
                onset = max(self._since, row - self._detectors[name].lag)
                self._open.append(Trace(name, severity, onset, row))

    def _onset(self, row: int, alert: Alert) -> int:
        known = alert.evidence.get(ONSET)
        lag = known if isinstance(known, int) else self.lag_of(alert.detector)
        earlier = [trace.onset for trace in self._open if trace.detector == alert.detector]
        return min([max(self._since, row - lag), *earlier])

    def standing(self, row: int) -> Standing:
        """What is known of the state at this row."""
        traces = self._covering(row)
        if any(trace.severity is Severity.CRITICAL for trace in traces):
            return Standing.POISONED
        if traces:
            return Standing.SUSPECT
        return Standing.HEALTHY if self.row - row >= self.lag else Standing.UNPROVEN

    def well(self, row: int) -> bool:
        """Whether no trouble is known of the state at this row, proven or not."""
        return not self._covering(row)

    def reason(self, row: int) -> str:
        """The troubles behind a standing, in words; "" for none."""
        return "; ".join(dict.fromkeys(map(str, self._covering(row))))

    def _covering(self, row: int) -> list[Trace]:
        return [trace for trace in (*self._ended, *self._open) if trace.covers(row)]

    def open(self, halting: bool = False) -> list[str]:
        """The detectors whose trouble lasts, by when it was told.

        Args:
            halting: only those whose settings let them halt a run.
        """
        if not self._open:
            return []
        names = dict.fromkeys(trace.detector for trace in sorted(self._open, key=lambda trace: trace.told))
        known = self._detectors
        return [n for n in names if not halting or (n in known and known[n].settings.severity == "critical")]

    def lag_of(self, detector: str) -> int:
        """The rows by which a detector may speak late."""
        known = self._detectors.get(detector)
        return known.lag if known is not None else self.lag

    def went_back(self) -> None:
        """The run has gone back to an older state: open troubles ended, and no later one is traced to before now."""
        for trace in self._open:
            trace.end = self.row
        self._ended += self._open
        self._open = []
        self._since = self.row + 1
