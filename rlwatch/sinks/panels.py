"""The console's texts: lines of at most `width` characters, without colour codes or line ends."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from rlwatch.diagnosis.outcome import Told, outcome_at_end, rollback_from
from rlwatch.sinks.jsonl import clean
from rlwatch.wording import counted, duration

if TYPE_CHECKING:
    from rlwatch.alert import Alert

MAX_EVIDENCE = 8
MAX_MESSAGE = 600
MAX_VALUE = 120
MAX_INCIDENTS = 3  # the last ones; all are in run.json
MAX_EVENT = 1200


Counts = Mapping[str, Mapping[str, int]]
"""Alerts by detector and severity."""


class Glyphs(NamedTuple):
    """What panels are drawn with."""

    top: str
    side: str
    bottom: str
    line: str


BOX = Glyphs("┌", "│", "└", "─")
ASCII = Glyphs("+", "|", "+", "-")


def start_text(info: Mapping[str, Any], width: int) -> list[str]:
    """What is watched, what is not, and where the record goes."""
    watched, off = list(info.get("detectors") or ()), list(info.get("off") or ())
    parts = [f"{len(watched)} detectors watch"]
    if off:
        parts.append(f"off: {', '.join(off)}")
    rows = (info.get("settings") or {}).get("coverage_after")
    if rows:
        parts.append(f"coverage after {rows} rows")
    parts.append(f"record: {info['run_dir']}" if info.get("run_dir") else "not recorded")
    return _wrap("rlwatch: ", "; ".join(parts), width)


def alert_panel(alert: Alert, width: int, glyphs: Glyphs) -> list[str]:
    """An alert: what, how bad, the evidence, the first remedy and where to read on."""
    title = f"rlwatch {alert.severity.upper()}: {alert.detector} at step {alert.step}"
    body = _wrap("", _short(alert.message, MAX_MESSAGE), width - 2)
    body += [line for pair in _evidence(clean(alert.evidence)) for line in _wrap("  ", pair, width - 2)]
    if alert.remedy:
        body += _wrap("first remedy: ", _short(alert.remedy, MAX_MESSAGE), width - 2)
    if alert.playbook:
        more = alert.playbook if "://" in alert.playbook else f"rlwatch playbook {alert.detector}"
        body += _wrap("more: ", more, width - 2)
    return _panel(title, body, width, glyphs)


def event_panel(event: Mapping[str, Any], width: int, glyphs: Glyphs) -> list[str]:
    """What was done to the run, a sentence for each part of its message."""
    title = f"rlwatch {str(event.get('event', '')).upper()} at step {event.get('step')}"
    parts = _short(event.get("message", ""), MAX_EVENT).split("; ")
    return _panel(title, [line for part in parts for line in _wrap("", part, width - 2)], width, glyphs)


def _panel(title: str, body: list[str], width: int, glyphs: Glyphs) -> list[str]:
    title = f"{glyphs.top}{glyphs.line} {title} "
    return [
        title + glyphs.line * (width - len(title)),
        *(f"{glyphs.side} {line}" for line in body),
        glyphs.bottom + glyphs.line * (width - 1),
    ]


def coverage_text(coverage: Mapping[str, Mapping[str, Any]], width: int) -> list[str]:
    """One line for the detectors that see, and two for each that does not: why, and the fix."""
    warming, off = len(_in_state(coverage, "warming")), _in_state(coverage, "off")
    seeing = warming + len(_in_state(coverage, "armed"))
    head = f"{seeing} of {len(coverage) - len(off)} detectors see their signal"
    lines = _wrap("rlwatch coverage: ", head + (f", {warming} still warming up" if warming else ""), width)
    for state in ("starved", "failed"):
        for name in _in_state(coverage, state):
            reason, fix = coverage[name].get("reason") or "no reason known", coverage[name].get("fix")
            lines += _wrap(f"  {state} {name}: ", _short(reason, MAX_MESSAGE), width)
            if fix:
                lines += _wrap("    fix: ", _short(fix, MAX_MESSAGE), width)
    return lines + (_wrap("  off: ", ", ".join(off), width) if off else [])


def summary_text(
    summary: Mapping[str, Any], counts: Counts, width: int, last_critical: Told | None = None
) -> list[str]:
    """The alerts of the run by detector and severity, who was blind, and where the record is.

    What to do about an incident is left out where the run has gone back from it and recovered.
    """
    rows, seconds = summary.get("rows"), summary.get("seconds")
    span = f"in {rows} rows" if rows is not None else "in this run"
    if isinstance(seconds, int | float) and math.isfinite(seconds):
        span += f", {duration(seconds)}"
    total = sum(sum(count.values()) for count in counts.values())
    recovered = outcome_at_end({"alerts": counts, **summary}, last_critical) == "recovered"
    span += "; the run has recovered" if recovered else ""
    lines = _wrap("rlwatch: ", f"{counted(total, 'alert') if total else 'no alert'} {span}", width)
    for severity in ("critical", "warning"):
        named = [f"{name} x{count[severity]}" for name, count in counts.items() if count.get(severity)]
        if named:
            lines += _wrap(f"  {severity}: ", ", ".join(named), width)
    kinds = [event.get("event") for event in summary.get("events") or ()]
    if kinds:
        lines += _wrap("  done: ", ", ".join(f"{kind} x{kinds.count(kind)}" for kind in dict.fromkeys(kinds)), width)
    blind = [*_in_state(summary.get("coverage"), "starved"), *_in_state(summary.get("coverage"), "failed")]
    if blind:
        lines += _wrap("  blind: ", ", ".join(blind), width)
    for incident in (summary.get("incidents") or ())[-MAX_INCIDENTS:]:
        what = _cured(incident, summary.get("events") or ()) if recovered else []
        lines += _diagnosis(what or incident.get("diagnosis") or (), width)
    if summary.get("run_dir"):
        lines += _wrap("  record: ", str(summary["run_dir"]), width)
    return lines


def _cured(incident: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> list[str]:
    """The lines of an incident that a rollback followed: what it was, and what was done; none where none followed."""
    done = rollback_from(max(incident.get("steps") or (0,)), events)
    if done is None or incident.get("severity") != "critical":
        return []
    return [f"Incident at {incident.get('title')}", *(incident.get("what") or ()), f"Done: {done.get('message')}"]


def _diagnosis(lines: Iterable[str], width: int) -> Iterable[str]:
    """An incident's lines, each wrapped under its own indent."""
    for line in lines:
        text = line.lstrip()
        yield from _wrap("  " + " " * (len(line) - len(text)), _short(text, MAX_MESSAGE), width)


def _in_state(coverage: Any, state: str) -> list[str]:
    if not isinstance(coverage, Mapping):
        return []
    return [name for name, entry in coverage.items() if entry.get("state") == state]


def _evidence(evidence: Mapping[str, Any]) -> Iterable[str]:
    pairs = list(evidence.items())
    wide = max((len(str(name)) for name, _ in pairs[:MAX_EVIDENCE]), default=0)
    for name, value in pairs[:MAX_EVIDENCE]:
        yield f"{name!s:<{wide}}  {_short(_value(value), MAX_VALUE)}"
    if len(pairs) > MAX_EVIDENCE:
        yield f"and {len(pairs) - MAX_EVIDENCE} more in alerts.jsonl"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value[:8])) + (", ..." if len(value) > 8 else "")
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(item)}" for name, item in list(value.items())[:8])
    return str(value)


def _short(text: Any, limit: int) -> str:
    """One line of printable text: a completion in the evidence must not drive the terminal."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in str(text)[: 2 * limit]).split())
    return plain if len(plain) <= limit else plain[: limit - 3] + "..."


def _wrap(lead: str, text: str, width: int) -> list[str]:
    """`text` after `lead`, with later lines indented; a word longer than a line, as a path, is left whole."""
    indent = " " * min(len(lead), 10)
    return textwrap.wrap(
        text,
        width,
        initial_indent=lead,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    ) or [lead.rstrip()]
