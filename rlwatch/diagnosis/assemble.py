"""From alerts to incidents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rlwatch.alert import Alert
from rlwatch.detectors.coverage import CoverageReport
from rlwatch.detectors.registry import detector_classes
from rlwatch.diagnosis.advice import advise
from rlwatch.diagnosis.blindness import blind_spots
from rlwatch.diagnosis.changes import BEFORE, Change
from rlwatch.diagnosis.compounds import matching
from rlwatch.diagnosis.cost import Cost
from rlwatch.diagnosis.fixes import ordered
from rlwatch.diagnosis.incident import Incident
from rlwatch.diagnosis.signs import signs_of
from rlwatch.diagnosis.timing import LINKS, UNKNOWN, Event, event_of, first_broken, together


def diagnose(
    alerts: Iterable[Alert],
    coverage: CoverageReport | None = None,
    *,
    changes: Iterable[Change] = (),
    step: int | None = None,
    stride: float = 1.0,
    seconds_per_step: float | None = None,
    gpus: int | None = None,
    gpu_price: float | None = None,
) -> list[Incident]:
    """The incidents of a run, in the order of their onsets; [] without alerts. The order of `alerts` does not matter.

    Alerts are one incident where no more than 64 rows without an alert lie between one and the next
    (`timing.GAP`); an alert that carries an onset counts from there.

    Args:
        coverage: what each detector saw: names the links of detectors that are not built in, and what was blind.
        changes: settings that were changed; those shortly before an incident are told of.
        step: the run's last step, for the cost so far.
        stride: steps from one row to the next.
        seconds_per_step: wall time of a step; None leaves hours and money out.
        gpus: GPUs of the run; None leaves money out.
        gpu_price: price of a GPU for an hour; None leaves money out.
    """
    links = _links(coverage)
    events = [event_of(alert, links.get(alert.detector, UNKNOWN), stride) for alert in alerts]
    price = (seconds_per_step, gpus, gpu_price)
    known = list(changes)
    return [
        _incident(group, coverage, step, price, _shortly_before(group, known, stride))
        for group in together(events, stride)
    ]


def incident_of(alerts: Iterable[Alert], *, changes: Iterable[Change] = (), stride: float = 1.0) -> Incident | None:
    """Alerts that are known to belong together, as one incident, without coverage and cost; None if there are none."""
    links = _links(None)
    events = [event_of(alert, links.get(alert.detector, UNKNOWN), stride) for alert in alerts]
    if not events:
        return None
    return _incident(events, None, None, (None, None, None), _shortly_before(events, changes, stride))


def _shortly_before(events: Iterable[Event], changes: Iterable[Change], stride: float) -> tuple[Change, ...]:
    """The changes that may have to do with it: at most `changes.BEFORE` rows before the first alert."""
    first = min(event.latest for event in events)
    return tuple(one for one in changes if first - BEFORE * stride <= one.step <= first)


def _incident(
    group: Sequence[Event],
    coverage: CoverageReport | None,
    step: int | None,
    price: tuple[float | None, int | None, float | None],
    changed: tuple[Change, ...],
) -> Incident:
    events = sorted(group, key=lambda event: (event.latest, event.place))
    signs = _signs(events)
    compounds = matching(signs)
    first, or_else = first_broken(events)
    link = next((compound.link for compound in compounds if compound.link), first.link)
    front = [first, *sorted((event for event in events if event is not first), key=lambda event: event.place)]
    advice, reasons = advise([event.alert for event in events], compounds)
    onset = min(event.onset for event in events)
    return Incident(
        events=tuple(events),
        first=first,
        link=link,
        or_else=tuple(or_else),
        compounds=tuple(compounds),
        fixes=ordered(compounds, front),
        advice=advice,
        reasons=reasons,
        cost=Cost.of(max(0, step - onset) if step is not None else 0, *price),
        changed=changed,
        blind=blind_spots(coverage, link, signs) if coverage is not None else (),
    )


def _signs(events: Iterable[Event]) -> Mapping[str, Sequence[Event]]:
    found: dict[str, list[Event]] = {}
    for event in events:
        for name in signs_of(event.alert):
            found.setdefault(name, []).append(event)
    return found


def _links(coverage: CoverageReport | None) -> dict[str, str]:
    """Detector -> link, from the registry and from the coverage, which knows the user's own detectors as well."""
    links = {name: kind.link.value for name, kind in detector_classes().items()}
    for line in coverage or ():
        links.setdefault(line.detector, line.link)
    return {name: link for name, link in links.items() if link in LINKS}
