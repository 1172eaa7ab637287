"""What the page says of signals and incidents in words and tables."""

from __future__ import annotations

from typing import Any

from rlwatch.diagnosis import Incident
from rlwatch.diagnosis.outcome import rollback_from
from rlwatch.report.data import RunData, worst_of
from rlwatch.report.downsample import Thinned
from rlwatch.report.panels import Panel
from rlwatch.report.sketch import sketch
from rlwatch.report.text import number, shown
from rlwatch.wording import counted

INCIDENTS = 10
"""Incidents that a report shows in full."""


def done(run: RunData) -> str:
    """What the last rollback changed."""
    changes = run.rollbacks[-1].get("remedies")
    told = [shown(change, 120) for change in changes[:4]] if isinstance(changes, list) else []
    return "; ".join(told) or "the state of an earlier step, without a change"


def todo(run: RunData) -> str:
    """The first fix of the worst incident."""
    worst = worst_of(run.incidents)
    return worst.fixes[0].text if worst is not None and worst.fixes else ""


def entry(run: RunData, panel: Panel, plain: bool) -> dict[str, Any]:
    """What a page says of a signal in words, and the plain drawing where there is no other."""
    ends = panel.extremes
    words = f"{panel.label}: "
    if ends is None:
        words += "no finite value"
    else:
        least, at, most, then = ends
        words += f"lowest {number(least)} at step {at:,}, highest {number(most)} at step {then:,}"
        words += f", last {number(panel.last)}"
    if panel.bad:
        step, what = panel.bad[0]
        words += f"; {what} in {counted(len(panel.bad), 'step')}, first at step {step:,}"
    return {
        "panel": panel,
        "words": words,
        "rows": table(panel.points),
        "drawing": sketch(run, panel) if plain else None,
    }


def table(points: Thinned, rows: int = 8) -> list[tuple[str, str, str, str]]:
    """A signal in a few lines: steps, smallest, median and largest value of what is drawn there."""
    steps, values, _ = points
    size = -(-len(values) // rows) or 1
    found = []
    for first in range(0, len(values), size):
        part = sorted(map(float, values[first : first + size]))
        span = f"{steps[first]:,} to {steps[min(first + size, len(steps)) - 1]:,}"
        found.append((span, number(part[0]), number(part[len(part) // 2]), number(part[-1])))
    return found


def incidents(run: RunData, most: int = INCIDENTS) -> list[dict[str, Any]]:
    """Each incident with its alerts' evidence, its fixes and the playbook's pages, worst first."""
    from rlwatch.report.playbook_pages import pages

    ranked = sorted(run.incidents, key=lambda one: (one.severity != "critical", one.onset))[:most]
    shown_pages: set[str] = set()
    found = []
    for one in sorted(ranked, key=lambda one: one.onset):
        events = [one.first, *(event for event in one.events if event is not one.first)]
        told = pages(event.alert.detector for event in events)
        new = {name: text for name, text in told.items() if name not in shown_pages}
        shown_pages |= new.keys()
        found.append({"incident": one, "pages": new, "events": events, "done": _ended(run, one)})
    return found


def _ended(run: RunData, one: Incident) -> str:
    """What was done, where a rollback has ended the incident and the run has recovered; else ""."""
    if run.outcome != "recovered" or one.severity != "critical":
        return ""
    back = rollback_from(one.last, run.events)
    return str(back.get("message", "")) if back is not None else ""
