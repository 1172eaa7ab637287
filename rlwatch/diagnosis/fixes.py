"""One ordered list of fixes out of several playbook pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from rlwatch import playbook
from rlwatch.diagnosis.compounds import Compound
from rlwatch.diagnosis.timing import Event


@dataclass(frozen=True, slots=True)
class Fix:
    """One thing to do: `source` is the compound or the detector that asks for it, `page` where it is explained."""

    text: str
    source: str
    page: str = ""

    def as_dict(self) -> dict[str, str]:
        """The fix as plain values."""
        return asdict(self)


TOPICS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (topic, re.compile(pattern, re.IGNORECASE))
    for topic, pattern in (
        ("checkpoint", r"\b(go|roll) back\b"),
        ("update size", r"fewer (inner )?epochs|smaller clip range|update smaller"),
        ("learning rate", r"\b(lower|cut|reduce|halve) the (\w+'s )?(learning )?rate"),
        ("KL coefficient", r"\b(raise|tighten|double) the (kl )?(coefficient|penalty|controller)"),
        ("gradient clipping", r"\bclip (the )?gradient"),
        ("completions", r"\b(read|look at) .*completions"),
        ("reward cap", r"\b(cap|clip) the rewards"),
        ("reward model", r"(refresh|regularise) the reward model"),
        ("length penalty", r"length penalty|overlong|equal length"),
        ("gold evaluation", r"gold evaluation"),
        ("advantage normalisation", r"^(normalise|check) .*advantage"),
        ("precision", r"\bbf16\b"),
        ("entropy bonus", r"entropy bonus"),
        ("prompts", r"diversify .*prompts"),
        ("patience", r"^if they are good, go on"),
    )
)
"""What a fix changes. The first in the list on a topic stands for the others: five pages lower the learning rate."""


def topic_of(text: str) -> str:
    """What this fix changes: a topic, or for a fix that is like no other its own words."""
    return next((topic for topic, pattern in TOPICS if pattern.search(text)), " ".join(text.lower().split()))


def ordered(compounds: Sequence[Compound], events: Sequence[Event]) -> tuple[Fix, ...]:
    """What to do, in order: the compounds' own fixes, the pages that they name, then the other pages.

    events: the alerts of the incident, the one that broke first at the front and the others in causal order.
    """
    asked = {topic_of(text) for compound in compounds for text in compound.fixes}
    seen = {topic for compound in compounds for topic in compound.harmful} - asked
    found = []
    for fix in _all(compounds, events):
        topic = topic_of(fix.text)
        if topic not in seen:
            seen.add(topic)
            found.append(fix)
    return tuple(found)


def _all(compounds: Sequence[Compound], events: Sequence[Event]) -> Iterable[Fix]:
    there = list(dict.fromkeys(event.alert.detector for event in events))
    for compound in compounds:
        for text in compound.fixes:
            yield Fix(text, compound.name)
    named = [detector for compound in compounds for detector in compound.first if detector in there]
    remedy = {event.alert.detector: event.alert.remedy for event in reversed(events)}
    for detector in dict.fromkeys((*named, *there)):
        pages = playbook.remedies(detector)
        for text in pages or [text for text in [remedy[detector]] if text]:
            yield Fix(text, detector, playbook.link(detector) if pages else "")
