"""The sink that puts alerts into the outbox, and starts the process that sends them."""

from __future__ import annotations

import contextlib
import os
import platform
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlwatch.diagnosis.outcome import Told, outcome_at_end
from rlwatch.redact import redact
from rlwatch.sinks.base import BaseSink
from rlwatch.sinks.files import AppendFile
from rlwatch.sinks.jsonl import clean, encode_line
from rlwatch.sinks.notify.launch import Line, launch
from rlwatch.sinks.notify.outbox import FOLDER, Record
from rlwatch.sinks.notify.targets import LEVELS, Target

if TYPE_CHECKING:
    from rlwatch.alert import Alert, Verdict
    from rlwatch.observation import Observation

HANDOVER_S = 0.05
"""Seconds that the training thread waits at most until an alert is in the outbox."""
START_S = 1.0
CLOSE_S = 5.0
"""Seconds that the end of a run waits for the last message, since the container may end with it."""
MAX_WAITING = 1000
CALM = 64
"""Rows without a critical alert after a rollback, after which people are told that the run has recovered."""

_EVENT_LEVELS = {"rollback": "critical", "halt": "critical", "stall": "critical", "resumed": "info"}


class NotifySink(BaseSink):
    """Tells people of alerts, of what was done to the run, and of its end.

    An alert is in the outbox, a file, when `alert` returns: a process that is killed a moment later leaves it to the
    sender, which is another process. The write is done by a thread, and waited for HANDOVER_S at most, so that a
    disk that hangs does not stop the training; nothing else here is waited for.

    targets: whom to tell.
    folder: the run's folder; None for a run without one, whose outbox is in a temporary folder.
    run: the run's name, as people know it.
    every: seconds between two messages to a target.
    report_url: the address under which the folder of runs can be opened in a browser, if any.
    who: what this process is, in words.
    on_trouble: gets a sentence when something does not work, possibly from another thread.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        folder: Path | None,
        run: str,
        *,
        every: float,
        report_url: str | None = None,
        who: str = "the training process",
        on_trouble: Callable[[str], object] = str,
    ) -> None:
        self._temporary = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="rlwatch-outbox-")) if folder is None else folder / FOLDER
        self._targets = list(targets)
        self._lowest = min((LEVELS.index(target.level) for target in targets), default=len(LEVELS))
        self._trouble = on_trouble
        self._file = AppendFile(self.folder / "outbox.jsonl")
        self._pid, self._process, self._count = os.getpid(), os.urandom(4).hex(), 0
        self._config = {
            "process": self._process,
            "pid": self._pid,
            "host": platform.node(),
            "who": who,
            "outbox": str(self.folder.absolute()),
            "run": run,
            "every": every,
            "report_url": report_url,
            "temporary": self._temporary,
            "targets": [{"url": one.url.get_secret_value(), "level": one.level} for one in targets],
        }
        self._line: Line | None = None
        self._closed = self._behind = False
        self._critical: Told | None = None  # the last one
        self._calm_in = 0  # rows; 0 where nobody waits for it
        self._jobs: queue.SimpleQueue[tuple[Record | None, threading.Event]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="rlwatch-outbox", daemon=True)
        self._thread.start()
        start = {"kind": "start", "level": "info", **{name: self._config[name] for name in ("pid", "host", "who")}}
        self._hand_over(start, START_S)

    def alert(self, alert: Alert) -> None:
        """Put an alert into the outbox."""
        if alert.critical:
            self._critical = (alert.step, alert.severity.value, alert.time)
        if self._wanted(alert.severity.value):
            told = {name: value for name, value in alert.as_dict().items() if name != "severity"}
            self._hand_over({"kind": "alert", "level": alert.severity.value, **told})

    def step(self, obs: Observation, verdict: Verdict) -> None:
        """Say that the run has recovered, when it stayed well for long enough after it went back."""
        if not self._calm_in:
            return
        self._calm_in = 0 if verdict.critical else self._calm_in - 1
        if not self._calm_in and not verdict.critical:
            text = f"It went back, and no critical alert has come in the {CALM} rows since. The run goes on."
            told = {"event": "recovered", "step": obs.step, "message": text, "outcome": "recovered"}
            self._hand_over({"kind": "event", "level": "critical", **told})  # to those who were told of the trouble

    def event(self, event: Mapping[str, Any]) -> None:
        """Put what was done to the run into the outbox; from any thread."""
        self._calm_in = {"rollback": CALM, "halt": 0}.get(str(event.get("event")), self._calm_in)
        level = _EVENT_LEVELS.get(str(event.get("event")), "warning")
        if self._wanted(level):
            names = ("event", "step", "message", "detector", "time")
            self._hand_over({"kind": "event", "level": level, **{name: event[name] for name in names if name in event}})

    def close(self, summary: Mapping[str, Any]) -> None:
        """Say how the run ended, and wait CLOSE_S at most until it is sent."""
        if self._closed or os.getpid() != self._pid:
            return
        self._hand_over(end_record(summary, self._critical), START_S)
        self._closed = True
        self._jobs.put((None, threading.Event()))
        self._thread.join(CLOSE_S)

    def _wanted(self, level: str) -> bool:
        return LEVELS.index(level) >= self._lowest if level in LEVELS else True

    def _hand_over(self, record: Record, wait: float = HANDOVER_S) -> None:
        if self._closed or os.getpid() != self._pid:  # a forked child has no thread
            return
        if self._jobs.qsize() >= MAX_WAITING:
            self._say("the outbox takes nothing, alerts are not told any more")
            return
        self._count += 1
        record = {"id": f"{self._process}-{self._count}", "process": self._process, "time": time.time(), **record}
        done = threading.Event()
        self._jobs.put((record, done))
        # Who was waited for in vain once is not waited for again until it is there.
        self._behind = not done.wait(0.0 if self._behind else wait)

    def _run(self) -> None:
        """The thread: writes, then rings."""
        while True:
            record, done = self._jobs.get()
            if record is None:
                break
            try:
                self._write(record)
            except Exception as error:  # noqa: BLE001 - the next may be written again
                self._say(f"an alert cannot be put into {self.folder} ({error})")
            if record["kind"] == "start":  # and is answered when somebody is there who would notice the end
                self._ring()
                done.set()
            else:
                done.set()
                self._ring()
        self._file.close()
        if self._line is not None:
            self._line.finish(CLOSE_S)

    def _write(self, record: Record) -> None:
        if record["kind"] == "start":
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file.append(encode_line(redact(clean(record))))

    def _ring(self) -> None:
        """Wake the sender; start it where there is none."""
        if self._line is not None and self._line.ring():
            return
        try:
            self._line = launch(self._config, self._say)
        except Exception as error:  # noqa: BLE001 - no process to be had, no such system call
            self._say(f"no process to send notifications can be started ({error}); `rlwatch deliver` sends them")

    def _say(self, sentence: str) -> None:
        with contextlib.suppress(Exception):
            self._trouble(f"{sentence}; what is not sent waits in {self.folder}")


def end_record(summary: Mapping[str, Any], critical: Told | None = None) -> Record:
    """What is told of a run that ends.

    critical: its last critical alert.
    """
    counts = {name: dict(count) for name, count in dict(summary.get("alerts") or {}).items()}
    levels = {level for count in counts.values() for level in count}
    error = _uncaught()
    outcome = outcome_at_end(summary, critical)
    level = "critical" if error or "critical" in levels else "warning" if "warning" in levels else "info"
    total = sum(sum(count.values()) for count in counts.values())
    how = f"The run ended by {error}" if error else "The run ended"
    where = f"after {summary.get('rows', 0)} rows"
    where += f" and {summary['seconds'] / 60:.0f} minutes" if "seconds" in summary else ""
    where += f", at step {summary['step']}" if "step" in summary else ""
    titles = [str(one.get("title")) for one in summary.get("incidents") or []]
    ending = {"error": error.partition(" ")[0]} if error else {"outcome": outcome}
    return {
        "kind": "end",
        "level": level,
        **ending,
        "message": f"{how} {where}: {total or 'no'} alert{'' if total == 1 else 's'}. {_STANDS[outcome]}".rstrip(),
        "alerts": counts,
        "incidents": titles,
    }


_STANDS = {
    "recovered": "It went back, and no critical alert came after that.",
    "halted": "rlwatch stopped it.",
    "critical": "",
    "warning": "",
    "clean": "",
    "not evaluated": "No detector had enough of its signal to judge it.",
}


def _uncaught() -> str:
    """The exception that ends the process, in a word; known once the interpreter has printed it."""
    error = getattr(sys, "last_value", None)
    return "" if error is None or hasattr(sys, "ps1") else f"{type(error).__name__} ({str(error)[:200]})"
