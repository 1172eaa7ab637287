"""What was not seen while an incident went on, and how far that limits its diagnosis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rlwatch.detectors.coverage import NO_FIX, SWITCHED_OFF, Coverage, CoverageReport
from rlwatch.detectors.registry import detector_classes
from rlwatch.diagnosis.compounds import Compound, suspected
from rlwatch.diagnosis.signs import SIGNS
from rlwatch.diagnosis.timing import LINKS, UNKNOWN, Event
from rlwatch.signals import SIGNALS

_BLIND = ("starved", "off", "failed")


def blind_spots(coverage: CoverageReport, link: str, signs: Mapping[str, Sequence[Event]]) -> tuple[str, ...]:
    """Sentences: what was not seen up to the blamed link, and what it would be if an unseen sign were there.

    link: the link that the diagnosis blames: a break before it, or in it, may have gone unseen.
    signs: the signs that were seen, with their events.
    """
    lines = [line for line in coverage if line.state in _BLIND and not _nothing_to_see(line)]
    sentences = []
    upstream = [line for line in lines if _place(line.link) <= _place(link)]
    if upstream:
        sentences.append(f"Not seen: {_listed(upstream)}. If one of these broke first, another link is to blame")
    missed = {line.detector: line for line in lines}
    for compound, sign in suspected(signs, missed):
        sentences.append(_perhaps(compound, sign, missed[SIGNS[sign].detector]))
    warming = [line.detector for line in coverage if line.state == "warming" and _place(line.link) <= _place(link)]
    if warming:
        sentences.append(f"Still learning what is normal: {', '.join(warming)}")
    return tuple(sentences)


def _nothing_to_see(line: Coverage) -> bool:
    """Whether the run has nothing that this detector could have missed: no critic, rewards of 0 and 1."""
    if line.state == "off":
        return line.reason != SWITCHED_OFF
    return line.state == "starved" and line.fix.startswith(NO_FIX)


def _place(link: str) -> int:
    return LINKS.index(link if link in LINKS else UNKNOWN)


def _listed(lines: Iterable[Coverage]) -> str:
    """The signals that were missing, each once, or the detector where that is not a signal's fault."""
    return ", ".join(dict.fromkeys(_subject(line) for line in lines))


def _subject(line: Coverage) -> str:
    kind = detector_classes().get(line.detector)
    if line.state != "starved" or kind is None:
        return f"{line.detector} ({line.state})"
    return _words(kind.needs[0])


def _words(signal: str) -> str:
    """A signal's name in words; per-sample values are told from their mean."""
    known = SIGNALS.get(signal)
    words = signal.replace("_", " ")
    return f"{words} of each sample" if known is not None and known.kind == "samples" else words


def _perhaps(compound: Compound, sign: str, line: Coverage) -> str:
    fix = f"; {line.fix} to know" if line.fix else ""
    return f"If {SIGNS[sign].says}, which was not seen, this is {compound.title}{fix}"
