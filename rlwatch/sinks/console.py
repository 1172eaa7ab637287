"""The console: a quiet line at the start, a panel for each alert, the coverage table, a summary."""

from __future__ import annotations

import os
import select
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from rlwatch.diagnosis.outcome import Told
from rlwatch.sinks import panels

if TYPE_CHECKING:
    from rlwatch.alert import Alert, Verdict
    from rlwatch.detectors.coverage import CoverageReport
    from rlwatch.observation import Observation

WIDTHS = 40, 120
LOG_WIDTH = 100  # where there is no terminal to ask
BLOCKED = 200  # milliseconds given to a terminal that takes no text (Ctrl-S, a pipe nobody reads)
PIECE = 1024  # characters: a pipe that is ready takes PIPE_BUF bytes, 4096 on Linux, without blocking
COLOURS = {"critical": "\x1b[1;31m", "warning": "\x1b[33m"}
PLAIN = "\x1b[0m"


class ConsoleSink:
    """Prints what a person should see, and nothing else; nothing per step.

    stream: a text stream; None is `sys.stderr` as it is at each writing.
    color: True or False; None is yes on a terminal, unless NO_COLOR is set.

    A stream that is closed, broken or blocked is given up at the first failure, without a word. A forked
    child prints nothing.
    """

    def __init__(self, stream: TextIO | None = None, color: bool | None = None) -> None:
        self._stream, self._color = stream, color
        self._pid = os.getpid()
        self._given_up = self._closed = False
        self._counts: dict[str, dict[str, int]] = {}
        self._shown: Mapping[str, Any] | None = None
        self._last_critical: Told | None = None

    def start(self, info: Mapping[str, Any]) -> None:
        """What is watched and where it is recorded, in a line."""
        self._say(lambda width, _: panels.start_text(info, width), apart=False)

    def step(self, obs: Observation, verdict: Verdict) -> None:
        """Nothing: a console that talks at every step is read by nobody."""

    def alert(self, alert: Alert) -> None:
        """A panel."""
        severity = alert.severity.value
        count = self._counts.setdefault(alert.detector, {})
        count[severity] = count.get(severity, 0) + 1
        if alert.critical:
            self._last_critical = (alert.step, severity, alert.time)
        self._say(lambda width, glyphs: panels.alert_panel(alert, width, glyphs), COLOURS.get(severity, ""))

    def event(self, event: Mapping[str, Any]) -> None:
        """A panel for what was done to the run."""
        self._say(lambda width, glyphs: panels.event_panel(event, width, glyphs), COLOURS["critical"])

    def coverage(self, report: CoverageReport) -> None:
        """The coverage table, where it says something new."""
        coverage = report.as_dict()
        states = {name: (entry["state"], entry["fix"]) for name, entry in coverage.items()}
        if states != self._shown:
            self._shown = states
            self._say(lambda width, _: panels.coverage_text(coverage, width))

    def close(self, summary: Mapping[str, Any]) -> None:
        """The summary of the run, once."""
        if not self._closed:
            self._closed = True
            self._say(lambda width, _: panels.summary_text(summary, self._counts, width, self._last_critical))

    def _say(self, lines: Callable[[int, panels.Glyphs], list[str]], colour: str = "", *, apart: bool = True) -> None:
        if self._given_up or os.getpid() != self._pid:
            return
        try:
            stream = sys.stderr if self._stream is None else self._stream
            terminal = stream.isatty()
            glyphs = panels.BOX if _can_carry(stream, "".join(panels.BOX)) else panels.ASCII
            text = lines(_width(), glyphs)
            if colour and self._coloured(terminal):
                text[0] = f"{colour}{text[0]}{PLAIN}"
            # A progress bar leaves the cursor in the middle of its line.
            _write(stream, "\n" * (apart and terminal) + "\n".join(text) + "\n")
        except Exception:  # noqa: BLE001 - whatever the stream is, the run goes on without it
            self._given_up = True

    def _coloured(self, terminal: bool) -> bool:
        if self._color is not None:
            return self._color
        return terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _width() -> int:
    return max(WIDTHS[0], min(WIDTHS[1], shutil.get_terminal_size((LOG_WIDTH, 24)).columns))


def _encoding(stream: TextIO) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def _can_carry(stream: TextIO, text: str) -> bool:
    try:
        text.encode(_encoding(stream))
    except UnicodeEncodeError:
        return False
    return True


def _write(stream: TextIO, text: str) -> None:
    encoding = _encoding(stream)
    text = text.encode(encoding, "replace").decode(encoding)
    for start in range(0, len(text), PIECE):
        _check_ready(stream)
        stream.write(text[start : start + PIECE])
        stream.flush()


def _check_ready(stream: TextIO) -> None:
    """Raise BlockingIOError when writing would make the training thread wait."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
    except (AttributeError, OSError, ValueError):  # no such call on this system, or no file behind the stream
        return
    if not poll.poll(BLOCKED):
        raise BlockingIOError("the stream takes no text")
