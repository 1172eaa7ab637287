"""What a notebook shows of a Watch and of a scan's results: plain HTML, light and dark alike, every text escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from rlwatch.wording import counted

if TYPE_CHECKING:
    from rlwatch.alert import Alert
    from rlwatch.detectors.coverage import CoverageReport
    from rlwatch.diagnosis import Incident
    from rlwatch.offline.replay import Replay
    from rlwatch.watch import Watch

MOST_ALERTS = 50
MOST_SIGNALS = 8
_WIDTH, _HEIGHT = 240, 28  # of a sparkline, pixels

# Badges carry their own ground, all else has the page's colours. Contrast of each is at least 5 to 1 (WCAG asks 4.5).
_BADGES = {
    "critical": "#fff;background:#b3261e",
    "warning": "#000;background:#f2b705",
    "clean": "#fff;background:#1b6e37",
}
_LINE = "border-bottom:1px solid rgba(128,128,128,.35)"


def bundle(plain: str, html: str | None) -> dict[str, str]:
    """The forms between which a frontend chooses."""
    return {"text/plain": plain, **({} if html is None else {"text/html": html})}


def watch_text(watch: Watch) -> str:
    """A Watch in plain text: what IPython prints on a terminal."""
    alerts = [f"step {one.step}  {one.severity.value.upper()}  {one.detector}: {one.message}" for one in watch.alerts]
    return "\n".join([f"rlwatch: {counted(watch.rows, 'row')}, {_verdict(watch.alerts)}", *alerts[-MOST_ALERTS:]])


def watch_html(watch: Watch) -> str:
    """A Watch: verdict, signals, alerts, diagnosis, coverage."""
    facts = [f"step {watch.step}" if watch.rows else "no row yet", counted(watch.rows, "row")]
    facts += [f"record: {watch.run_dir}"] if watch.run_dir else []
    parts = [_head("rlwatch", _verdict(watch.alerts), facts), _signals(watch.run_dir)]
    return _page([*parts, _alerts(watch.alerts), *map(_incident, watch.diagnosis()), _coverage(watch.coverage())])


def replay_text(replay: Replay) -> str:
    """A replayed run as `rlwatch scan` prints it."""
    from rlwatch.offline.render import report_lines

    return "\n".join(report_lines([replay]))


def replay_html(replay: Replay) -> str:
    """A replayed run: verdict, alerts, diagnosis, what was recognised, coverage."""
    facts = [counted(replay.rows, "row"), *([replay.format] if replay.format else [])]
    facts += [one for one in (replay.error, replay.unjudged) if one]
    parts = [_head(replay.run, replay.health, facts), _alerts(replay.alerts), *map(_incident, replay.incidents)]
    if replay.recognised or replay.remarks:
        parts.append(_details("what was read", _list([*replay.recognised, *replay.remarks])))
    return _page([*parts, _coverage(replay.coverage)] if replay.coverage is not None else parts)


def coverage_html(report: CoverageReport) -> str:
    """A coverage table."""
    return _page([_coverage(report, opened=True)])


def incident_html(incident: Incident) -> str:
    """An incident's diagnosis."""
    return _page([_incident(incident)])


def _page(parts: Iterable[str]) -> str:
    body = "".join(part for part in parts if part)
    return f'<div class="rlwatch" style="color:inherit;line-height:1.45;max-width:70em">{body}</div>'


def _head(name: str, verdict: str, facts: Sequence[str]) -> str:
    said = escape(" · ".join(facts))
    return f'<p style="margin:.3em 0"><b>{escape(name)}</b> {_badge(verdict)} <span>{said}</span></p>'


def _badge(word: str) -> str:
    colours = _BADGES.get(word.lower(), "inherit;border:1px solid currentColor")
    return f'<span style="color:{colours};border-radius:.3em;padding:.05em .5em">{escape(word)}</span>'


def _alerts(alerts: Iterable[Alert]) -> str:
    every = list(alerts)
    rows = [
        (str(one.step), _Html(_badge(one.severity.value)), one.detector, one.message, one.remedy)
        for one in every[-MOST_ALERTS:]
    ]
    if not rows:
        return ""
    hidden = len(every) - len(rows)
    more = f"<p>{counted(hidden, 'earlier alert')} not shown</p>" if hidden else ""
    return more + _table(("step", "severity", "detector", "message", "first remedy"), rows)


def _incident(incident: Incident) -> str:
    return _details(incident.title, f'<pre style="white-space:pre-wrap">{escape(str(incident))}</pre>', opened=True)


def _coverage(report: CoverageReport, *, opened: bool = False) -> str:
    lines = list(report)
    armed = sum(line.state == "armed" for line in lines)
    rows = [(line.detector, line.state, line.signal, line.reason, line.fix) for line in lines]
    table = _table(("detector", "state", "reads", "why", "fix"), rows)
    return _details(f"coverage: {armed} of {len(lines)} detectors armed", table, opened=opened)


def _signals(folder: Any) -> str:
    """Sparklines of the recorded rows; nothing where there is no record."""
    if folder is None:
        return ""
    from rlwatch.terminal.record import RunRecord

    record = RunRecord(folder)
    record.refresh()
    rows: list[tuple[str, ...]] = []
    for name in record.names()[:MOST_SIGNALS]:
        values = record.values(name)
        last = f"{next((value for value in reversed(values) if value is not None), math.nan):.4g}"
        rows.append((name, last, _Html(_svg(values, f"{name}: {last} at the last of {len(values)} rows"))))
    return _table(("signal", "last", f"the last {len(record.rows)} rows"), rows) if rows else ""


def _svg(values: Sequence[float | None], label: str) -> str:
    """A line in the text's colour, broken where a value is not finite; a column that holds several keeps its ends."""
    from rlwatch.terminal.glyphs import columns

    finite = [value for value in values if value is not None and math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    parts = [[value for value in part if value is not None] for part in columns(values, _WIDTH // 2)]
    pieces, move = [], "M"
    for index, part in enumerate(parts):
        x = (index + 0.5) * _WIDTH / max(1, len(parts))
        there = [value for value in part if math.isfinite(value)]
        for value in dict.fromkeys((min(there), max(there))) if len(there) == len(part) else ():
            share = (value / 2 - low / 2) / (high / 2 - low / 2) if high > low else 0.5
            pieces.append(f"{move}{x:.1f} {(_HEIGHT - 4) * (1 - share) + 2:.1f}")
            move = "L"
        if len(there) < len(part):
            move = "M"
    path = f'<path d="{"".join(pieces)}" fill="none" stroke="currentColor" stroke-width="1.2"/>' if pieces else ""
    size = f'width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    return f'<svg {size} role="img" aria-label="{escape(label)}">{path}</svg>'


class _Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cell = f'style="text-align:left;vertical-align:top;padding:.15em .6em;{_LINE}"'
    top = "".join(f'<th scope="col" {cell}>{escape(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(f'<td {cell}>{_cell(one)}</td>' for one in row)}</tr>" for row in rows)
    style = "border-collapse:collapse;background:transparent;margin:.3em 0"
    return f'<table style="{style}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def _cell(text: str) -> str:
    return str(text) if isinstance(text, _Html) else escape(text)


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _details(title: str, body: str, *, opened: bool = False) -> str:
    return f"<details{' open' * opened}><summary>{escape(title)}</summary>{body}</details>"


def _verdict(alerts: Iterable[Alert]) -> str:
    severities = {alert.severity.value for alert in alerts}
    return next((one for one in ("critical", "warning") if one in severities), "clean")
