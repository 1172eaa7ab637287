"""What the writer thread does with a job: encode, append, and keep `run.json` current."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rlwatch.alert import Alert, Verdict
from rlwatch.redact import redact
from rlwatch.sinks.files import AppendFile, make_run_folder, replace
from rlwatch.sinks.incident import Incidents
from rlwatch.sinks.jsonl import encode_line, encode_pretty
from rlwatch.sinks.milestones import Milestones
from rlwatch.sinks.pages import Pages
from rlwatch.sinks.records import step_record, without_secrets

RETRY = 10.0  # seconds between attempts to make a run folder that could not be made
PATIENCE = 0.2  # seconds that an alert waits for the row of its step
MAX_PREVIOUS = 50


class Recorder:
    """Owns the files of one run folder. Its methods run on the writer thread and report trouble by callback.

    Lines are gathered between two calls of `flush`, and appended by one `write` a file.
    """

    def __init__(
        self,
        runs_dir: Path,
        run_id: str,
        *,
        resume: bool,
        trouble: Callable[[str], None],
        behind: Callable[[], bool],
        report: bool = False,
        note: Callable[[str], object] = str,
    ) -> None:
        self.folder = runs_dir / run_id
        self.written = {"steps": 0, "alerts": 0}
        self.lost = 0
        self._resume, self._trouble, self._behind, self._note = resume, trouble, behind, note
        self._made, self._retry_at = False, 0.0
        self._run: dict[str, Any] = {"format": 1, "run_id": run_id, "started": time.time(), "summary": None}
        self._buffers: dict[str, list[bytes]] = {"steps": [], "alerts": [], "events": [], "samples": []}
        self._files: dict[str, AppendFile] = {}
        self._incidents = Incidents()
        self._milestones = Milestones()
        self._pages = Pages(lambda: self.folder, self._note) if report else None
        self._pending: list[tuple[float, Alert]] = []
        self._last_step: int | None = None

    def open(self) -> None:
        """Make the folder, the first time or again after RETRY seconds."""
        self._retry_at = time.monotonic() + RETRY
        try:
            self.folder = make_run_folder(self.folder.parent, self.folder.name, self._resume)
        except OSError as error:
            self._cannot_write(error)
            return
        self._made = True
        if self._resume:
            self._run["previous"] = self._read_previous()
        self.update(run_id=self.folder.name)

    def start(self, info: Mapping[str, Any]) -> None:
        """Begin `run.json` with `info`."""
        self.update(**{**redact(info), "run_id": self.folder.name})

    def step(self, step: int, samples: Mapping[str, Any], verdict: Verdict, *scalars: Any) -> None:
        """Add a step; `scalars` are further arguments of `records.step_record`."""
        # NumPy gives up the GIL in every call, and against a busy thread waits 5 ms to have it back.
        summarised = {} if self._behind() else samples
        line = encode_line(step_record(step, summarised, verdict, *scalars))
        self._buffers["steps"].append(line)
        self._last_step = step
        row, _, signals, *_ = scalars
        self._incidents.row(step, line, samples)
        self._incidents.changes.push(step, row, signals)
        self._milestone(self._milestones.row, step, samples)
        self._open_incidents()

    def _milestone(self, pick: Callable[..., list[bytes]], *args: Any) -> None:
        try:
            self._buffers["samples"] += pick(*args)
        except Exception as error:  # noqa: BLE001 - samples of a shape nobody thought of
            self._trouble(f"some samples could not be written ({error!r})")

    def alert(self, alert: Alert) -> None:
        """Add an alert, and open its incident as soon as the row of its step is there."""
        alert = without_secrets(alert)
        self._buffers["alerts"].append(encode_line(alert.as_dict()))
        self._pending.append((time.monotonic() + PATIENCE, alert))
        if alert.step == self._last_step:
            self._open_incidents()

    def event(self, event: Mapping[str, Any]) -> None:
        """Add what was done to the run."""
        event = redact(event)
        self._buffers["events"].append(encode_line(event))
        self._open_incidents()
        try:
            self._incidents.event(event)
        except OSError as error:
            self._cannot_write(error)
        if self._pages is not None:
            self._pages.incident(self._incidents.home)

    def update(self, **entries: Any) -> None:
        """Rewrite `run.json` with these entries."""
        self._run.update(entries)
        if self._made:
            try:
                replace(self.folder / "run.json", encode_pretty(self._run))
            except OSError as error:
                self._cannot_write(error)

    def finish(self, summary: Mapping[str, Any], stats: Callable[[], Mapping[str, Any]]) -> None:
        """Write all that waits, and the end of `run.json`."""
        if not self._made:
            self.open()
        self._milestone(self._milestones.last)
        self._append_all()
        self._open_incidents()
        end = redact(summary)
        if "coverage" in end:
            self._run["coverage"] = end.pop("coverage")
        self._run.pop("summary", None)  # it comes last in the file
        self.update(summary=end, recording=stats())
        self._incidents.close()
        for file in self._files.values():
            file.close()
        if self._pages is not None and self._made:
            self._pages.end()

    def flush(self) -> None:
        """Append what was gathered; see to what was put off."""
        if not self._made and time.monotonic() >= self._retry_at:
            self.open()
        self._append_all()
        if self._pending and time.monotonic() >= self._pending[0][0]:
            self._open_incidents()
        if self._pages is not None:
            self._pages.tick()

    def _append_all(self) -> None:
        for name, lines in self._buffers.items():
            if lines:
                self._append(name, lines)
                lines.clear()

    def _append(self, name: str, lines: list[bytes]) -> None:
        try:
            if name not in self._files:
                self._files[name] = AppendFile(self.folder / f"{name}.jsonl")
            self._files[name].append(b"".join(lines))
            self.written[name] = self.written.get(name, 0) + len(lines)
        except OSError as error:
            self.lost += len(lines)
            self._cannot_write(error)

    def _open_incidents(self) -> None:
        if not self._pending:
            return
        self._append_all()  # first the alert itself
        waiting, self._pending = self._pending, []
        for _, alert in waiting:
            try:
                self._incidents.alert(self.folder, alert)
            except OSError as error:
                self._cannot_write(error)
            except Exception as error:  # noqa: BLE001 - samples of a shape nobody thought of
                self._trouble(f"an incident could not be written ({error!r})")
        if self._pages is not None:
            self._pages.incident(self._incidents.home)

    def _read_previous(self) -> list[dict[str, Any]]:
        """When earlier processes of a resumed run started and how they ended."""
        try:
            before = json.loads((self.folder / "run.json").read_bytes())
            entry = {"started": before["started"], "summary": before["summary"]}
            return [*before.get("previous", []), entry][-MAX_PREVIOUS:]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return []

    def _cannot_write(self, error: OSError) -> None:
        reason = error.strerror or repr(error)
        self._trouble(f"cannot write the run's record in {self.folder} ({reason}), lost records are counted")
