"""An incident: what broke first, what the alerts are together, what to do, and what it cost; as data and as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rlwatch.alert import Alert, Severity
from rlwatch.diagnosis.advice import Advice, Rule
from rlwatch.diagnosis.changes import Change
from rlwatch.diagnosis.compounds import Compound
from rlwatch.diagnosis.cost import Cost
from rlwatch.diagnosis.fixes import Fix, topic_of
from rlwatch.diagnosis.timing import NAMES, Event

MAX_FIXES = 8
"""Fixes that the text shows; the record has all of them."""

MAX_EVENTS = 12

_NOWHERE = "No step of this run is surely older than the trouble: to go back may mean to start anew"


@dataclass(frozen=True, slots=True)
class Incident:
    """Alerts that belong together, diagnosed.

    Attributes:
        events: the alerts on their time line, by onset, then along the loop.
        first: the event that shows what broke first.
        link: the link of the loop to fix: that of `first`, or the one that a compound blames; "unknown" last.
        or_else: other links that may have broken first, for all that the detectors' delays let one say.
        compounds: what the alerts are together, the one that says most first.
        fixes: one list, in the order to try them.
        advice, reasons: stop or adjust, and why.
        cost: since `onset`; 0 steps where the run's last step is not known.
        changed: settings that somebody changed shortly before the first alert.
        blind: sentences on what was not seen and limits all this.
    """

    events: tuple[Event, ...]
    first: Event
    link: str
    or_else: tuple[str, ...]
    compounds: tuple[Compound, ...]
    fixes: tuple[Fix, ...]
    advice: Advice
    reasons: tuple[Rule, ...]
    cost: Cost
    blind: tuple[str, ...]
    changed: tuple[Change, ...] = ()

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """The alerts, in the order of `events`."""
        return tuple(event.alert for event in self.events)

    @property
    def onset(self) -> int:
        """The step of the earliest onset that is known, or of the first alert."""
        return min(event.onset for event in self.events)

    @property
    def healthy_before(self) -> int:
        """The first step that may have been damaged, by the delay of the detectors: a checkpoint is to be older."""
        return max(0, int(min(event.earliest for event in self.events if event.latest <= self.first.latest)))

    @property
    def last(self) -> int:
        """The step of the last alert."""
        return max(event.alert.step for event in self.events)

    @property
    def severity(self) -> Severity:
        """The worst of its alerts."""
        return Severity.CRITICAL if any(alert.critical for alert in self.alerts) else Severity.WARNING

    @property
    def title(self) -> str:
        """The incident in a line."""
        steps = f"step {self.onset}" if self.onset == self.last else f"steps {self.onset} to {self.last}"
        what = self.compounds[0].title if self.compounds else f"{self.first.alert.detector} ({NAMES[self.link]})"
        return f"{steps}: {what}"

    def as_dict(self) -> dict[str, Any]:
        """The incident as plain values; `diagnosis` holds the lines of the text, `what` those without what to do."""
        return {
            "title": self.title,
            "steps": [self.onset, self.last],
            "healthy_before": self.healthy_before,
            "severity": self.severity.value,
            "link": self.link,
            "or_else": list(self.or_else),
            "first": _event(self.first) | {"evidence": dict(self.first.alert.evidence)},
            "alerts": [_event(event) for event in self.events],
            "compounds": [{"name": one.name, "says": one.says, "because": one.because} for one in self.compounds],
            "fixes": [fix.as_dict() for fix in self.fixes],
            "advice": self.advice.value,
            "reasons": [{"because": rule.because, "go_on_if": rule.go_on_if} for rule in self.reasons],
            "cost": self.cost.as_dict(),
            "blind": list(self.blind),
            "changed": [change._asdict() for change in self.changed],
            "what": list(self._what()),
            "diagnosis": self.lines(),
        }

    def lines(self) -> list[str]:
        """The diagnosis in plain words, a line or paragraph each; nested lines are indented by two spaces."""
        return [f"Incident at {self.title}", *self._what(), *self._do()]

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        from rlwatch.notebook import incident_html

        return incident_html(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _what(self) -> Iterator[str]:
        first = self.first.alert
        yield f"Broke first: {NAMES[self.first.link]}, by {first.detector} at step {first.step}: {first.message}"
        if self.changed:
            yield f"Changed shortly before: {'; '.join(map(str, self.changed))}"
        if self.link != self.first.link:
            yield f"To blame: {NAMES[self.link]}, by what the alerts say together"
        elif self.or_else:
            others = " or ".join(NAMES[link] for link in self.or_else)
            yield f"Not sure: {others} may have broken before it; of what fits the alerts, it comes first in the loop"
        others_told = [event.alert for event in self.events if event is not self.first]
        if others_told:
            yield "Then:"
            yield from (
                f"  step {one.step}  {one.severity.value.upper()}  {one.detector}: {one.message}"
                for one in others_told[:MAX_EVENTS]
            )
        if len(others_told) > MAX_EVENTS:
            yield f"  and {len(others_told) - MAX_EVENTS} more alerts"
        for one in self.compounds:
            yield f"What it is: {one.says} {one.because}"

    def _do(self) -> Iterator[str]:
        word = "Stop now" if self.advice is Advice.STOP else "Adjust and go on"
        yield f"{word}: {'. Also: '.join(rule.because for rule in self.reasons[:2])}"
        yield f"Go on as it is only if {self.reasons[0].go_on_if}"
        if self.fixes:
            yield "Do, in this order:"
            yield from (f"  {number}. {fix.text}" for number, fix in enumerate(self.fixes[:MAX_FIXES], 1))
        if any(topic_of(fix.text) == "checkpoint" for fix in self.fixes):
            step = self.healthy_before
            yield f"A checkpoint to go back to is older than step {step}" if step else _NOWHERE
        pages = list(dict.fromkeys(fix.source for fix in self.fixes if fix.page))
        if pages:
            yield f"More: rlwatch playbook {pages[0]}" + (f" (and {', '.join(pages[1:])})" if pages[1:] else "")
        if self.cost.steps:
            yield f"Cost so far, if nothing since step {self.onset} is kept: {self.cost}"
        yield from self.blind


def _event(event: Event) -> dict[str, Any]:
    alert = event.alert
    return {
        "step": alert.step,
        "onset": event.onset,
        "detector": alert.detector,
        "link": event.link,
        "severity": alert.severity.value,
        "message": alert.message,
    }
