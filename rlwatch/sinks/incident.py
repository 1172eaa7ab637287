"""Incident folders: what the run looked like when it went wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlwatch.alert import Alert, Severity
from rlwatch.diagnosis import incident_of
from rlwatch.diagnosis.changes import Changes
from rlwatch.sinks.files import AppendFile, make_free_folder, replace, safe_name
from rlwatch.sinks.jsonl import encode_line, encode_pretty
from rlwatch.sinks.records import pick_samples

WINDOW = 64  # rows kept before an alert, and the rows without an alert that end an incident
MAX_INCIDENTS = 200
MAX_ALERTS = 200  # of one incident that its diagnosis goes by, the first ones


class Incidents:
    """Gathers alerts into incidents and writes a folder for each. Used by the writer thread alone.

    An alert opens an incident when none came in the last WINDOW rows; the first critical of an incident that
    has only warnings opens a folder of its own, since the samples of that step are the ones to see. Further
    alerts go to the open folder's `timeline.jsonl`, and `diagnosis.json` there is brought up to date, by all
    alerts of the incident, also those of its earlier folder. Its methods raise OSError.
    """

    def __init__(self) -> None:
        self.count = 0
        self._window: deque[bytes] = deque(maxlen=WINDOW)
        self._quiet = WINDOW
        self._critical = False
        self._samples: tuple[int, Mapping[str, Any]] | None = None
        self._timeline: AppendFile | None = None
        self._alerts: list[Alert] = []
        self._steps: tuple[int, ...] = ()
        self.changes = Changes()

    def row(self, step: int, line: bytes, samples: Mapping[str, Any]) -> None:
        """Remember a step's line, and its samples until another step brings some."""
        self._quiet += 1
        self._steps = (*self._steps[-1:], step)
        self._window.append(line)
        if any(name in samples for name in ("completions", "prompts", "rewards")):
            self._samples = step, samples

    def alert(self, folder: Path, alert: Alert) -> None:
        """Open an incident under `folder` or add to the one that is open."""
        critical = alert.severity == Severity.CRITICAL
        if self._quiet >= WINDOW:
            self._alerts = []
        opens = self._quiet >= WINDOW or (critical and not self._critical)
        self._critical = critical or (self._critical and self._quiet < WINDOW)
        self._quiet = 0
        if opens and self.count < MAX_INCIDENTS:
            self.count += 1
            self._open(folder, alert)
        if self._timeline is not None:
            self._timeline.append(encode_line(alert.as_dict()))
            self._diagnose(self._timeline.path.parent, alert)

    def event(self, event: Mapping[str, Any]) -> None:
        """What was done about it belongs to the incident that is open."""
        if self._timeline is not None and self._quiet < WINDOW:
            self._timeline.append(encode_line(event))

    @property
    def home(self) -> Path | None:
        """The folder of the incident that is open."""
        return self._timeline.path.parent if self._timeline is not None and self._quiet < WINDOW else None

    def close(self) -> None:
        if self._timeline is not None:
            self._timeline.close()

    def _diagnose(self, home: Path, alert: Alert) -> None:
        if len(self._alerts) < MAX_ALERTS:
            self._alerts.append(alert)
            stride = max(1, self._steps[-1] - self._steps[0]) if self._steps else 1
            incident = incident_of(self._alerts, changes=self.changes, stride=stride)
            if incident is not None:
                replace(home / "diagnosis.json", encode_pretty(incident.as_dict()))

    def _open(self, folder: Path, alert: Alert) -> None:
        self.close()
        self._timeline = None
        home = make_free_folder(folder / "incidents", safe_name(f"{alert.step}-{alert.detector}"))
        self._timeline = AppendFile(home / "timeline.jsonl")
        (home / "alert.json").write_bytes(encode_pretty(alert.as_dict()))
        (home / "window.jsonl").write_bytes(b"".join(self._window))
        if self._samples is not None:
            step, samples = self._samples
            lines = [encode_line({"step": step, **record}) for record in pick_samples(samples, alert.step)]
            (home / "samples.jsonl").write_bytes(b"".join(lines))
