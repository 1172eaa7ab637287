"""`rlwatch monitor`: judges a run that goes on, from its log, and acts at a critical."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, TextIO

from rlwatch.alert import Alert
from rlwatch.config import load_settings
from rlwatch.offline.actions import ActionError, Actions, Process
from rlwatch.offline.follow import Follower
from rlwatch.offline.ingest import IngestError
from rlwatch.offline.replay import blind_rules, watch_for
from rlwatch.offline.scan import CLEAN, CRITICALS, UNREADABLE, WARNINGS
from rlwatch.sinks.jsonl import clean
from rlwatch.telling import as_json, printable

if TYPE_CHECKING:
    from rlwatch.sinks.notify import NotifySink

COVERAGE_AFTER = 20
"""Rows after which it is said what cannot be judged."""


class Monitor:
    """One run, judged as its rows come.

    Args:
        source: a file, a folder, `-` for stdin, or `wandb:ENTITY/PROJECT/RUN`.
        preset, signal_map, rules: as of a scan.
        alerts: a file to which every alert is appended, as a line of JSON.
        on_critical: actions: `stop PID`, `touch FILE`, `run COMMAND`.
        notify: notification URLs; none: those of the settings.
        past: whether a critical among the rows that were there before the start acts too.
        pid: the run's process: when it has ended, so has the run.
        idle: seconds without a row after which the run counts as ended; None for never.
        form: alerts as text or as lines of JSON on stdout.

    Raises `ConfigError` for a wrong setting and `ActionError` for a wrong action or process.
    """

    def __init__(
        self,
        source: str,
        *,
        preset: str | None = None,
        signal_map: Mapping[str, str] | None = None,
        rules: Sequence[str] = (),
        alerts: Path | None = None,
        on_critical: Sequence[str] = (),
        notify: Sequence[str] = (),
        past: bool = False,
        pid: int | None = None,
        idle: float | None = None,
        form: Literal["text", "json"] = "text",
    ) -> None:
        self._actions = Actions(on_critical)
        self._rules = rules
        self._processes = [Process(pid)] if pid is not None else self._actions.processes
        self._watch = watch_for(preset, signal_map or {}, rules)
        self._follower = Follower(source, {**self._watch.settings.signal_map, **(signal_map or {})}, self._over)
        self._source, self._past, self._idle, self._form = source, past, idle, form
        self._file: TextIO | None = None
        if alerts is not None:
            try:
                self._file = alerts.open("a", encoding="utf-8")
            except OSError as error:
                raise ActionError(f"{alerts} cannot be written ({error.strerror})") from error
        self._people = self._notify_sink(notify)
        self._last = time.monotonic()
        self._worst = CLEAN
        self._stopped = False

    def run(self) -> int:
        """Follows the run to its end, prints what is found, and returns the exit code."""
        error, interrupted = "", False
        with _signals(self.stop):
            try:
                self._judge()
            except IngestError as trouble:
                error = str(trouble)
            except KeyboardInterrupt:
                interrupted = True
        self._note(*self._follower.said, *self._actions.finish())
        if self._file is not None:
            self._file.close()
        code = self._close(error)
        if interrupted:
            raise KeyboardInterrupt
        return code

    def stop(self) -> None:
        """Ends it soon, with its summary; for signal handlers."""
        self._stopped = True

    def _judge(self) -> None:
        told = False
        for row in self._follower.rows():
            self._last = time.monotonic()
            for alert in self._watch.log(row.metrics, step=row.step).alerts:
                self._tell(alert)
            self._note(*self._follower.said)
            self._follower.said.clear()
            if not told and self._watch.rows >= COVERAGE_AFTER:
                told = True
                self._note(*self._coverage())
            if self._stopped:
                return

    def _over(self) -> bool:
        """Whether to stop waiting: asked to, the run's process has ended, or nothing has come for long."""
        self._note(*self._follower.said)
        self._follower.said.clear()
        if self._stopped or (self._processes and not any(process.alive for process in self._processes)):
            return True
        log = self._follower.log
        if log is not None and log.ended:
            return True
        return self._idle is not None and time.monotonic() - self._last > self._idle

    def _tell(self, alert: Alert) -> None:
        self._worst = max(self._worst, CRITICALS if alert.critical else WARNINGS)
        told = json.dumps(clean(alert.as_dict()), allow_nan=False)
        if self._form == "json":
            print(told, flush=True)
        else:
            severity = alert.severity.value.upper()
            print(printable(f"step {alert.step}  {severity}  {alert.detector}: {alert.message}"))
            print(printable(f"  first fix: {alert.remedy or '-'}  (rlwatch playbook {alert.detector})"), flush=True)
        if self._file is not None:
            try:
                self._file.write(told + "\n")
                self._file.flush()
            except OSError as error:
                self._note(f"the alerts can no longer be written ({error.strerror})")
                self._file = None
        if self._people is not None and (self._past or self._follower.caught_up):
            self._people.alert(alert)
        if alert.critical:
            self._act(alert)

    def _act(self, alert: Alert) -> None:
        if self._past or self._follower.caught_up:
            self._note(*self._actions.take(alert))
        elif self._actions.any:
            self._note(f"step {alert.step} was there before the start: nothing is done (--past acts)")

    def _notify_sink(self, urls: Sequence[str]) -> NotifySink | None:
        """Who tells people, if anybody is to be told."""
        given: dict[str, Any] = {"notify": list(urls)} if urls else {}
        settings = load_settings(**given)
        if not settings.notify:
            return None
        from rlwatch.sinks.notify import NotifySink

        every, run = settings.notify_every, f"monitor of {self._source}"
        return NotifySink(settings.notify, None, run, every=every, who="the monitor", on_trouble=self._note)

    def _coverage(self) -> list[str]:
        report = self._watch.coverage()
        blind = [line.detector for line in report.in_state("starved", "failed")]
        watching = len(report.in_state("armed", "warming"))
        return [f"{watching} detectors have their signals; without: {', '.join(blind) or 'none'}"]

    def _close(self, error: str) -> int:
        incidents, coverage, rows = self._watch.diagnosis(clock=False), self._watch.coverage(), self._watch.rows
        if self._people is not None:
            titles = [{"title": incident.title} for incident in incidents]
            self._people.close({"rows": rows, "alerts": self._watch.counts, "incidents": titles})
        self._watch.close()
        log = self._follower.log
        if log is not None and rows:
            self._note(*log.remarks())
        if error:
            self._note(error)
            if self._form == "json":
                print(as_json({"error": error}), flush=True)
            return UNREADABLE
        if self._form == "text":
            for incident in incidents:
                print("\n" + "\n".join(printable(line) for line in incident.lines()))
        judged = bool(rows) and bool(coverage.in_state("armed"))
        if blind := blind_rules(coverage, self._rules, self._watch.settings.signal_map) if rows else []:
            self._note(f"not evaluated: {'; '.join(blind)}")
            return UNREADABLE
        if not judged and self._worst == CLEAN:
            why = f"its {rows} rows hold too little for any detector" if rows else "no row came"
            self._note(f"not evaluated: {why}")
            return UNREADABLE
        self._note(f"ended after {rows} rows: {('clean', 'warnings', 'critical')[self._worst]}")
        return self._worst

    def _note(self, *sentences: str) -> None:
        for sentence in sentences:
            print(printable(f"rlwatch: {self._source}: {sentence}"), file=sys.stderr, flush=True)


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM ends the monitor as the end of the run does."""

    def handle(number: int, frame: FrameType | None) -> None:
        stop()

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
