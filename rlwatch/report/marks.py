"""What happened to a run, as marks over its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from rlwatch.diagnosis.timing import LINKS, NAMES
from rlwatch.report.data import MAX_ALERTS, RunData, worst_of
from rlwatch.report.loop import State
from rlwatch.report.text import shown

SHOWN = 300
"""Marks that are drawn of each kind."""


class Happening(NamedTuple):
    """A line of the time line; `kind` is "critical", "warning", or an event's name."""

    step: int
    kind: str
    what: str
    says: str
    onset: int | None


def happenings(run: RunData) -> list[Happening]:
    """All that was said and done, by step."""
    onsets = {(event.alert.step, event.alert.detector): event.onset for one in run.incidents for event in one.events}
    found = [
        Happening(alert.step, alert.severity.value, alert.detector, shown(alert.message, 600), onset)
        for alert in run.alerts[:MAX_ALERTS]
        for onset in [onsets.get((alert.step, alert.detector))]
    ]
    found += [
        Happening(event["step"], str(event.get("event", "")), str(event.get("event", "")), _said(event), None)
        for event in run.events
    ]
    return sorted(found, key=lambda one: one.step)


def _said(event: Mapping[str, Any]) -> str:
    return shown(event.get("message") or "", 1000)


def link_states(run: RunData) -> dict[str, State]:
    """How each link of the loop stands, by the worst incident and by what was blind."""
    states: dict[str, State] = dict.fromkeys(LINKS, "well")
    if run.coverage is not None:
        for link in LINKS:
            seen = [line.state for line in run.coverage if line.link == link and line.state != "off"]
            if seen and all(state in ("starved", "failed") for state in seen):
                states[link] = "blind"
    for one in run.incidents:
        states |= dict.fromkeys((event.link for event in one.events), "alert")
    worst = worst_of(run.incidents)
    if worst is not None:
        states |= dict.fromkeys(worst.or_else, "maybe")
        if worst.link != worst.first.link:
            states[worst.link] = "blamed"
        states[worst.first.link] = "first"
    return states


def names_of(links: list[str] | tuple[str, ...]) -> str:
    """Links in words."""
    return " or ".join(NAMES.get(link, link) for link in links)
