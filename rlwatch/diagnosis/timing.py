"""When each alert's trouble began, which alerts belong together, and which link of the loop broke first.

A detector speaks when it is sure, which is later than the onset: by a row for a NaN, by dozens for a drift. So each
alert stands for an interval, from `LAGS` rows before it to its own step, and one broke before another only where the
intervals do not overlap. Where they do, the causal order of the loop decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rlwatch.alert import Alert
from rlwatch.detectors.base import Link
from rlwatch.diagnosis.signs import only_outcome

GAP = 64
"""Rows without an alert that part two incidents; the run folder's incidents go by the same number."""

UNKNOWN = "unknown"

LINKS: tuple[str, ...] = (*(link.value for link in Link), UNKNOWN)
"""The links in causal order; alerts of detectors that no link is known for come last."""

NAMES = {
    "data": "environment and data", "reward": "reward", "advantage": "advantage", "policy": "policy update",
    "critic": "critic", "exploration": "exploration", "freshness": "freshness of the rollouts",
    "numerics": "numerics", "system": "system", UNKNOWN: "a link that is not known",
}  # fmt: skip

LAGS = {
    "loss_nonfinite": 0,
    "advantage_spike": 5, "entropy_explosion": 5, "gradient_spike": 5, "kl_explosion": 5,
    "reward_variance_explosion": 5,
    "clip_fraction": 10, "entropy_collapse": 10, "length_exploitation": 10,
    "frozen_weights": 20, "proxy_divergence": 20, "reward_bimodality": 20, "reward_collapse": 20,
    "rollout_mismatch": 20, "throughput": 20, "update_imbalance": 20,
    "side_metrics": 30, "staleness": 30, "value_failure": 30,
    "kl_controller": 40, "reward_degenerate": 40, "reward_drift": 60,
}  # fmt: skip
"""Rows from onset to alert that a detector's windows take; an alert whose evidence has more `rows` is given those."""

_USUAL_LAG = 10


@dataclass(frozen=True, slots=True)
class Event:
    """An alert on the run's time line: its trouble began between the steps `earliest` and `latest`."""

    alert: Alert
    link: str
    earliest: float
    latest: float
    known: bool

    @property
    def onset(self) -> int:
        """The step to speak of: the onset where the alert carries one, else the alert's own step."""
        return int(self.latest)

    @property
    def place(self) -> tuple[int, float, int, str, str, str, str]:
        """Sorts events alike whatever order they came in: by link, then by time, then by what they say."""
        alert = self.alert
        said = alert.detector, alert.severity.value, alert.message, f"{alert.evidence!r} {alert.time}"
        return (LINKS.index(self.link), self.latest, alert.step, *said)


def event_of(alert: Alert, link: str, stride: float) -> Event:
    """Where the alert stands, in steps. `evidence["onset"]`, a step, is believed where it is not after the alert."""
    onset = _finite(alert.evidence.get("onset"))
    if onset is not None and onset <= alert.step:
        return Event(alert, link, onset, onset, True)
    rows = LAGS.get(alert.detector, _USUAL_LAG)
    lasted = _finite(alert.evidence.get("rows"))
    if lasted is not None and lasted > rows:
        rows = min(GAP, int(lasted))
    return Event(alert, link, alert.step - rows * stride, float(alert.step), False)


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def together(events: Iterable[Event], stride: float) -> list[list[Event]]:
    """Events in incidents: each lies at most GAP rows after the end of those before it.

    An event reaches from its onset, where the alert carries one, to its alert, so incidents whose spans overlap are
    one. The result does not depend on the order of `events`.
    """
    incidents: list[list[Event]] = []
    end = -math.inf
    for event in sorted(events, key=lambda event: (event.latest, event.alert.step, event.place)):
        if event.latest > end + GAP * stride:
            incidents.append([])
            end = -math.inf
        incidents[-1].append(event)
        end = max(end, float(event.alert.step))
    return incidents


def first_broken(events: Sequence[Event], outcome: Callable[[Alert], bool] = only_outcome) -> tuple[Event, list[str]]:
    """The event that shows where it began, and the links (in causal order) that may as well have broken first.

    Those are the events that none surely precedes. A mere outcome among them, as a falling reward, is blamed
    only where nothing else may have come first.
    """
    horizon = min(event.latest for event in events)
    open_to = [event for event in events if event.earliest <= horizon]
    causes = [event for event in open_to if not outcome(event.alert)] or open_to
    first = min(causes, key=lambda event: event.place)
    links = sorted({event.link for event in causes}, key=LINKS.index)
    return first, [link for link in links if link != first.link]
