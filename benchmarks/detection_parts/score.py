"""What alerts are worth on labelled runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, NamedTuple

from detection_parts.runs import Run

SLACK_ROWS, SLACK_SHARE = 2, 0.05
"""How long before its labelled onset a failure may be told: a label is set by eye."""


class Said(NamedTuple):
    """One alert: the step of the row after which it was known, `warning` or `critical`, and who."""

    step: float
    severity: str
    detector: str


@dataclass
class Score:
    """Figures of one tool over labelled runs.

    Attributes:
        healthy, healthy_rows: runs and their logged rows.
        wrong_criticals: healthy runs with a critical.
        wrong_alerts: healthy runs with any alert.
        failed: failed runs.
        told, told_critical: those with an alert, a critical, from the onset (less the slack) to the end.
        named: those of which such an alert comes from a detector that is right.
        early: alerts on failed runs before that; `early_rows` is how many rows there were.
        delays: rows after the onset at which the first alert came, by run; empty for a tool that judges at the end.
    """

    healthy: int = 0
    healthy_rows: int = 0
    wrong_criticals: int = 0
    wrong_alerts: int = 0
    failed: int = 0
    told: int = 0
    told_critical: int = 0
    named: int = 0
    early: int = 0
    early_rows: int = 0
    delays: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)

    @property
    def delay(self) -> float | None:
        """The median of the delays."""
        return median(self.delays) if self.delays else None

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**asdict(self), "delay": self.delay}


def score(
    runs: Iterable[Run],
    alerts: Mapping[str, Sequence[Said]],
    means: Mapping[str, Sequence[str]] | None = None,
    timed: bool = True,
) -> Score:
    """Figures of one tool.

    Args:
        alerts: by the run's name; a run that is not in it counts as silent.
        means: the tool's name for an alert -> our detectors that say the same; the name itself counts too.
        timed: whether the alerts' steps say when they were known. Where they do not, every one of a failed run counts.
    """
    total = Score()
    for run in runs:
        said = alerts.get(run.name, ())
        if run.failed:
            _failed(total, run, said, means or {}, timed)
        else:
            total.healthy += 1
            total.healthy_rows += len(run.steps)
            critical = any(alert.severity == "critical" for alert in said)
            total.wrong_criticals += critical
            total.wrong_alerts += bool(said)
            if said:
                total.wrong.append(f"{run.name}: {_listed(said)}")
    return total


def _failed(total: Score, run: Run, said: Sequence[Said], means: Mapping[str, Sequence[str]], timed: bool) -> None:
    begin = next((row for row, step in enumerate(run.steps) if step >= run.onset), 0)
    before = max(0, begin - max(SLACK_ROWS, int(SLACK_SHARE * len(run.steps))))
    first_step = run.steps[before] if timed else float("-inf")
    counted = [alert for alert in said if alert.step >= first_step]
    total.failed += 1
    total.early += len(said) - len(counted)
    total.early_rows += before
    total.told += bool(counted)
    total.told_critical += any(alert.severity == "critical" for alert in counted)
    if not counted:
        total.missed.append(f"{run.name} ({run.fault})")
        return
    if timed:
        known = min(alert.step for alert in counted)
        total.delays.append(sum(run.onset < step <= known for step in run.steps))
    if any(right(run, alert.detector, means) for alert in counted):
        total.named += 1
    else:
        total.unnamed.append(f"{run.name} ({run.fault}): {_listed(counted)}")


def right(run: Run, detector: str, means: Mapping[str, Sequence[str]]) -> bool:
    """Whether an alert of that name tells this run's failure."""
    names = (detector.lower(), *means.get(detector, ()))
    return any(word in name for word in run.words for name in names)


def _listed(said: Sequence[Said]) -> str:
    firsts = {alert.detector: alert for alert in reversed(said)}
    return ", ".join(f"{alert.detector} {alert.severity} at {alert.step:g}" for alert in reversed(firsts.values()))
