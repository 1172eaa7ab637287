"""What a person reads, on a terminal and in a log file."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from rlwatch.alert import Alert, Severity, Verdict
from rlwatch.detectors.coverage import Coverage, CoverageReport
from rlwatch.observation import Observation
from rlwatch.sinks import ConsoleSink, Sink

MakeAlert = Callable[..., Alert]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "60")


@pytest.fixture
def alert() -> Alert:
    """A critical alert with a long message and mixed evidence."""
    return Alert(
        detector="kl_explosion",
        severity=Severity.CRITICAL,
        step=120,
        message="KL divergence = 0.41, 6.2 sigma above rolling mean for 3 consecutive steps",
        evidence={"kl": 0.41234567, "sigma": 6.2, "last": [0.1, 0.2], "rows": 3, "signal": "kl"},
        playbook="playbook/kl_explosion.md",
        remedy="Raise the KL coefficient (TRL: beta) to twice its value.",
    )


REPORT = CoverageReport(
    10,
    (
        Coverage("kl_explosion", "policy", "starved", "", 0, "no kl in 10 rows", "set beta > 0 in GRPOConfig"),
        Coverage("loss_nonfinite", "numerics", "armed", "loss", 10),
        Coverage("reward_drift", "reward", "warming", "reward_mean", 10, "10 of the 50 rows it learns from"),
        Coverage("reward_bimodality", "reward", "off", reason="switched off by its settings"),
    ),
)

PANEL_60 = """\
┌─ rlwatch CRITICAL: kl_explosion at step 120 ──────────────
│ KL divergence = 0.41, 6.2 sigma above rolling mean for 3
│ consecutive steps
│   kl      0.4123
│   sigma   6.2
│   last    0.1, 0.2
│   rows    3
│   signal  kl
│ first remedy: Raise the KL coefficient (TRL: beta) to
│           twice its value.
│ more: rlwatch playbook kl_explosion
└───────────────────────────────────────────────────────────
"""


def test_a_panel_in_a_log_file(alert: Alert) -> None:
    """Plain lines of the width asked for: what, evidence, remedy, where to read on."""
    stream = io.StringIO()
    ConsoleSink(stream).alert(alert)
    assert stream.getvalue() == PANEL_60


def test_a_panel_follows_the_width(alert: Alert, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 100 columns the message fits one line, and no line is longer."""
    monkeypatch.setenv("COLUMNS", "100")
    stream = io.StringIO()
    ConsoleSink(stream).alert(alert)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) == 100
    assert lines[1] == "│ KL divergence = 0.41, 6.2 sigma above rolling mean for 3 consecutive steps"
    assert len(lines) == 10


def test_ascii_where_the_stream_has_no_boxes(alert: Alert) -> None:
    """A latin-1 log gets plus signs, and a question mark for what it cannot carry."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    sink = ConsoleSink(stream)
    sink.alert(alert)
    sink.close({"run_dir": "runs/größe"})
    text = raw.getvalue().decode("ascii")
    assert text.startswith("+- rlwatch CRITICAL")
    assert "record: runs/gr??e" in text


@pytest.mark.parametrize(
    ("stream", "environment", "color", "coloured"),
    [
        (Terminal, {}, None, True),
        (Terminal, {"NO_COLOR": "1"}, None, False),
        (Terminal, {"TERM": "dumb"}, None, False),
        (io.StringIO, {}, None, False),
        (io.StringIO, {}, True, True),
        (Terminal, {}, False, False),
    ],
)
def test_colour_only_where_it_is_wanted(
    alert: Alert,
    monkeypatch: pytest.MonkeyPatch,
    stream: Callable[[], TextIO],
    environment: dict[str, str],
    color: bool | None,
    coloured: bool,
) -> None:
    """On a terminal, unless NO_COLOR or the caller says no."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = stream()
    ConsoleSink(out, color).alert(alert)
    assert ("\x1b[1;31m" in out.getvalue()) == coloured  # type: ignore[attr-defined]


def test_a_progress_bar_is_not_written_over(alert: Alert) -> None:
    """On a terminal a panel begins on a line of its own; in a log there is no empty line."""
    terminal, log = Terminal(), io.StringIO()
    ConsoleSink(terminal, color=False).alert(alert)
    ConsoleSink(log).alert(alert)
    assert terminal.getvalue() == "\n" + log.getvalue()


def test_a_run_without_an_alert_is_quiet(make_step: Callable[..., Observation]) -> None:
    """One line at the start, nothing per step, and one sentence at the end."""
    stream = io.StringIO()
    sink = ConsoleSink(stream)
    assert isinstance(sink, Sink)
    sink.start({"detectors": ["a", "b"], "off": [], "run_dir": Path("runs/x"), "settings": {"coverage_after": 5}})
    assert stream.getvalue() == ("rlwatch: 2 detectors watch; coverage after 5 rows; record:\n         runs/x\n")
    stream.truncate(0)
    stream.seek(0)
    for step in range(100):
        sink.step(make_step(step), Verdict(step))
    sink.close({"rows": 100, "seconds": 7300.0, "run_dir": "runs/x", "coverage": {}})
    sink.close({"rows": 100})
    assert stream.getvalue() == "rlwatch: no alert in 100 rows, 2.0 h\n  record: runs/x\n"


def test_the_summary_counts_alerts_and_names_the_blind(make_alert: MakeAlert) -> None:
    """By severity and detector; detectors that saw nothing are named, so that silence is not taken for health."""
    stream = io.StringIO()
    sink = ConsoleSink(stream)
    for detector, severity in [("a", "warning"), ("a", "critical"), ("b", "warning"), ("a", "warning")]:
        sink.alert(make_alert(1, severity, detector))
    stream.truncate(0)
    stream.seek(0)
    sink.close({"rows": 9, "seconds": 3.4, "coverage": REPORT.as_dict()})
    assert stream.getvalue() == (
        "rlwatch: 4 alerts in 9 rows, 3 s\n  critical: a x1\n  warning: a x2, b x1\n  blind: kl_explosion\n"
    )


@pytest.mark.parametrize("again", [False, True])
def test_the_end_of_a_run_that_recovered_says_what_was_done(make_alert: MakeAlert, again: bool) -> None:
    """What to do is not said about an incident that a rollback has ended; it is when a critical came after it."""
    stream = io.StringIO()
    sink = ConsoleSink(stream)
    alerts = [make_alert(50, "critical", "a"), *([make_alert(70, "critical", "a")] if again else [])]
    for one in alerts:
        sink.alert(one)
    stream.truncate(0)
    stream.seek(0)
    event = {"event": "rollback", "step": 50, "message": "went back to step 40", "time": alerts[0].time + 1e-6}
    incident = {"title": "step 50: a", "steps": [50, 50], "severity": "critical", "what": ["Broke first: a"]}
    incident["diagnosis"] = ["Incident at step 50: a", "Broke first: a", "Stop now: it gets worse"]
    sink.close({"rows": 90, "events": [event], "incidents": [incident]})
    text = stream.getvalue()
    assert ("the run has recovered" in text) is not again
    assert ("Done: went back to step 40" in text) is not again
    assert ("Stop now" in text) is again


def test_coverage_says_who_is_blind_and_why() -> None:
    """One line for those that see, the reason and the fix for each that does not; repeated only when it changed."""
    stream = io.StringIO()
    sink = ConsoleSink(stream)
    sink.coverage(REPORT)
    sink.coverage(CoverageReport(20, REPORT.detectors))
    assert stream.getvalue() == (
        "rlwatch coverage: 2 of 3 detectors see their signal, 1 still\n"
        "          warming up\n"
        "  starved kl_explosion: no kl in 10 rows\n"
        "    fix: set beta > 0 in GRPOConfig\n"
        "  off: reward_bimodality\n"
    )
    sink.coverage(CoverageReport(20, REPORT.detectors[1:]))
    assert stream.getvalue().count("rlwatch coverage") == 2


def test_evidence_cannot_drive_the_terminal() -> None:
    """Control characters and line ends of a completion are blanks; long values and long lists are cut."""
    evidence: dict[str, Any] = {"text": "\x1b[2J\r\nhello" + "x" * 500, **{f"e{i}": float(i) for i in range(10)}}
    stream = io.StringIO()
    ConsoleSink(stream).alert(Alert("d", Severity.WARNING, 1, "a\x07b\nc", evidence | {"e0": float("nan")}))
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "\r" not in text
    assert "│ a b c\n" in text
    assert "x..." in text
    assert "e0    NaN" in text
    assert "and 3 more in alerts.jsonl" in text
    assert len(text) < 1500


def test_stderr_is_looked_up_when_it_is_written(alert: Alert, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stderr that is replaced after the watch was made is the one written to."""
    sink = ConsoleSink()
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    sink.alert(alert)
    assert stream.getvalue() == PANEL_60
    monkeypatch.setattr(sys, "stderr", None)
    sink.alert(alert)


class Broken(io.StringIO):
    """A stream that fails, and counts how often it was asked."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.asked = 0

    def write(self, text: str) -> int:
        """Fail."""
        self.asked += 1
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("closed"),
        BrokenPipeError(),
        OSError(5, "I/O"),
        BlockingIOError(),
        UnicodeEncodeError("x", "x", 0, 1, "x"),
    ],
)
def test_a_broken_stream_is_given_up(alert: Alert, error: Exception) -> None:
    """One attempt, no exception, and silence from then on."""
    stream = Broken(error)
    sink = ConsoleSink(stream)
    sink.start({})
    sink.alert(alert)
    sink.coverage(REPORT)
    sink.close({})
    assert stream.asked == 1


def test_a_closed_stream_is_given_up(alert: Alert) -> None:
    """So is one that the user closed."""
    stream = io.StringIO()
    sink = ConsoleSink(stream)
    stream.close()
    sink.alert(alert)


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """The reading end of a pipe, and a stream on the writing end."""
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w", encoding="utf-8")
    yield reader, stream
    os.close(reader)
    with contextlib.suppress(OSError):
        stream.close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs poll")
def test_a_pipe_that_nobody_reads_does_not_hold_the_run(alert: Alert, pipe: tuple[int, TextIO]) -> None:
    """Once the pipe is full the console is given up after a fraction of a second."""
    reader, stream = pipe
    sink = ConsoleSink(stream)
    slowest = 0.0
    for _ in range(500):
        started = time.monotonic()
        sink.alert(alert)
        slowest = max(slowest, time.monotonic() - started)
    assert 0.1 < slowest < 5
    assert os.read(reader, 1 << 16).startswith(PANEL_60.encode())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_prints_nothing(alert: Alert, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that made the sink is the one that prints."""
    stream = io.StringIO()
    sink = ConsoleSink(stream)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    sink.alert(alert)
    assert stream.getvalue() == ""
