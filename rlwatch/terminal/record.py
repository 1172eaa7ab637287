"""What is known of one run, brought up to date as its folder grows, in bounded memory."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from rlwatch.diagnosis.cost import Cost
from rlwatch.diagnosis.outcome import Outcome, Told, judged, outcome_of, told_of
from rlwatch.sinks.records import NOT_SIGNALS
from rlwatch.terminal.folder import FolderError, Life, changed, life, read_info
from rlwatch.terminal.tail import Tail
from rlwatch.wording import NONFINITE

ROWS = 512
"""Rows that the pictures show."""

ALERTS = 64
LAST_BYTES = 2 * 2**20  # of steps.jsonl that are read of what was there before: some thousands of rows
MOST_SIGNALS = 256  # and detectors


class Alarm(NamedTuple):
    """A detector's last alert; `time` in seconds since 1970."""

    step: int
    severity: str
    time: float


class RunRecord:
    """A run's folder, read as it grows.

    Attributes:
        info: `run.json`.
        life: whether the run goes on, has ended, or its process has died without closing it.
        rows: the last rows, without their samples, oldest first.
        seen: signal or sample array -> rows that carried it, of those that were read.
        alerts, events: the last ones as recorded, oldest first; `counts` counts all alerts, detector -> severity -> n.
        alerted: detector -> its last alert; `went_back` is when the run last rolled back.
        diagnosis: of the last incident, as in `diagnosis.json`; {} while there is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info: dict[str, Any] = {}
        self.life: Life = "running"
        self.rows: deque[dict[str, Any]] = deque(maxlen=ROWS)
        self.seen: dict[str, int] = {}
        self.last_seen: dict[str, int] = {}
        self.read = 0
        self.alerts: deque[dict[str, Any]] = deque(maxlen=ALERTS)
        self.events: deque[dict[str, Any]] = deque(maxlen=ALERTS)
        self.counts: dict[str, dict[str, int]] = {}
        self.alerted: dict[str, Alarm] = {}
        self.went_back = 0.0
        self.last_critical: Told | None = None
        self.diagnosis: dict[str, Any] = {}
        self._steps = Tail(folder / "steps.jsonl", LAST_BYTES)
        self._alerts = Tail(folder / "alerts.jsonl")
        self._events = Tail(folder / "events.jsonl")
        self._done: list[dict[str, Any]] = []  # the last thing done to the run
        self._stamp: object = None

    def refresh(self) -> bool:
        """Read what is new; whether there was anything. Raises OSError, and `FolderError` without a readable record."""
        before = self.read, self.life, self._stamp, sum(map(len, (self.alerts, self.events)))
        told = self.total
        self._read_info()
        self.life = life(self.info, self.folder, time.time())  # before the rows: all of an ended run are there
        for row in self._steps.poll():
            self._row(row)
        for alert in self._alerts.poll():
            self._alert(alert)
        for event in self._events.poll():
            self.events.append(event)
            if event.get("event") in ("rollback", "halt"):
                self._done = [event]
            if event.get("event") == "rollback":
                self.went_back = _number(event.get("time"), self.went_back)
        if self.total != told or (self.diagnosis == {} and self.alerts):
            self._read_diagnosis()
        return told != self.total or before != (
            self.read, self.life, self._stamp, sum(map(len, (self.alerts, self.events)))
        )  # fmt: skip

    @property
    def behind(self) -> bool:
        """Whether there is more to read already."""
        return any(tail.behind for tail in (self._steps, self._alerts, self._events))

    @property
    def whole(self) -> bool:
        """Whether all rows of the run were read."""
        return self._steps.whole

    @property
    def total(self) -> int:
        """Alerts so far."""
        return sum(sum(count.values()) for count in self.counts.values())

    @property
    def outcome(self) -> Outcome:
        """How the run stands."""
        told: list[Told] = [(None, "warning", None)] if self.counts else []
        evaluated = judged(self.info.get("coverage"), self.life != "running")
        return outcome_of([*told, self.last_critical] if self.last_critical else told, self._done, evaluated)

    @property
    def step(self) -> int | None:
        """The last step."""
        return self.rows[-1].get("step") if self.rows else None

    @property
    def row(self) -> int:
        """Rows of the run so far."""
        return int(_number(self.rows[-1].get("row"), self.read - 1)) + 1 if self.rows else 0

    @property
    def seconds_per_step(self) -> float | None:
        """The median of the last rows, by their times; None before there are two."""
        known = [(_number(row.get("time"), math.nan), _number(row.get("step"), math.nan)) for row in self.rows]
        gaps = [(t - t0) / (s - s0) for (t0, s0), (t, s) in pairwise(known) if s > s0 and t >= t0]
        return statistics.median(gaps[-64:]) if gaps else None

    @property
    def seconds(self) -> float:
        """From the start of the process to its last sign of life."""
        summary = self.info.get("summary")
        if isinstance(summary, Mapping):
            return _number(summary.get("seconds"), 0.0)
        start = _number(self.info.get("started"), math.nan)
        return max(0.0, changed(self.folder) - start) if math.isfinite(start) else 0.0

    @property
    def cost(self) -> Cost | None:
        """What the run has cost; None where its GPUs are not known."""
        settings = self.info.get("settings")
        gpus = settings.get("gpus") if isinstance(settings, Mapping) else None
        if not isinstance(gpus, int) or not self.row:
            return None
        price = settings.get("gpu_price") if isinstance(settings, Mapping) else None
        return Cost.of(self.row, self.seconds / self.row, gpus, price if isinstance(price, int | float) else None)

    def values(self, name: str) -> list[float | None]:
        """A signal over `rows`; None where a row lacks it."""
        found = (row.get(name) for row in self.rows)
        return [None if value is None else number(value) for value in found]

    def names(self) -> list[str]:
        """The signals of the last rows."""
        return list(dict.fromkeys(name for row in self.rows for name in row if name not in NOT_SIGNALS))

    def _read_info(self) -> None:
        try:
            stat = (self.folder / "run.json").stat()
        except FileNotFoundError:
            if not (self.folder / "steps.jsonl").exists():
                raise FolderError(f"{self.folder}: the run's record has gone") from None
            return
        stamp = stat.st_mtime_ns, stat.st_ino, stat.st_size
        if stamp != self._stamp:
            self.info, self._stamp = read_info(self.folder), stamp

    def _row(self, row: dict[str, Any]) -> None:
        samples = row.pop("samples", None)
        self.rows.append(row)
        self.read += 1
        for name in (*row, *(samples if isinstance(samples, dict) else ())):
            if name in self.seen or len(self.seen) < MOST_SIGNALS:
                self.seen[name] = self.seen.get(name, 0) + 1
                self.last_seen[name] = self.read

    def _alert(self, alert: dict[str, Any]) -> None:
        name, severity = str(alert.get("detector")), str(alert.get("severity"))
        alert.pop("evidence", None)
        if severity == "critical":
            self.last_critical = told_of(alert)
        self.alerts.append(alert)
        if name in self.counts or len(self.counts) < MOST_SIGNALS:
            count = self.counts.setdefault(name, {})
            count[severity] = count.get(severity, 0) + 1
            step, when = int(_number(alert.get("step"), 0)), _number(alert.get("time"), 1.0)
            self.alerted[name] = Alarm(step, severity, when)

    def _read_diagnosis(self) -> None:
        """The newest one; an incident's folder appears after its alert."""
        with suppress(OSError, ValueError, RecursionError):
            files = (self.folder / "incidents").glob("*/diagnosis.json")
            newest = max(files, key=lambda file: file.stat().st_mtime_ns, default=None)
            found = json.loads(newest.read_bytes()) if newest is not None else {}
            self.diagnosis = found if isinstance(found, dict) else {}


def number(value: Any) -> float:
    """A recorded number, the words of the non-finite ones too; NaN for anything else."""
    if isinstance(value, str):
        return NONFINITE.get(value, math.nan)
    return _number(value, math.nan)


def _number(value: Any, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise
