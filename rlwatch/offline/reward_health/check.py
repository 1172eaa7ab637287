"""What a check says: a verdict with its figures, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from rlwatch.offline.reward_health.statistics import Interval

Verdict = Literal["pass", "warn", "fail", "not evaluated"]

WORST_FIRST: tuple[Verdict, ...] = ("fail", "not evaluated", "warn", "pass")

_WIDE = 0.5
"""Width of an interval from which a figure that straddles its limit says nothing."""


@dataclass
class Check:
    """One check's outcome.

    Attributes:
        name: of the check.
        verdict: `not evaluated` where data are missing; `says` then begins with "because".
        says: one sentence.
        figures: what was measured, JSON values and intervals.
    """

    name: str
    verdict: Verdict
    says: str
    figures: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The check as JSON values."""
        return {"check": self.name, "verdict": self.verdict, "says": self.says, "figures": as_json(self.figures)}


def missing(name: str, because: str, **figures: Any) -> Check:
    """A check that could not be made."""
    return Check(name, "not evaluated", f"because {because}", figures)


def few(name: str, what: str, have: int, need: int) -> Check:
    """A check for which there is too little."""
    return missing(name, f"it needs {need:,} {what} and there are {have:,}", needed=need, there=have)


def against(figure: Interval, limit: float) -> Verdict:
    """`fail` if the interval is over the limit, `pass` if it is under it; else `warn`; a wide one is no verdict."""
    if figure.low > limit:
        return "fail"
    if figure.high <= limit:
        return "pass"
    return "not evaluated" if figure.high - figure.low > _WIDE else "warn"


def more_needed(figure: Interval, size: int) -> int:
    """Samples with which an interval of this width, and the noise as it is, would be half of `_WIDE`."""
    return int(size * ((figure.high - figure.low) / (_WIDE / 2)) ** 2) + 1


def worst(verdicts: list[Verdict]) -> Verdict:
    """The worst of several: a failure, then what is not known, then a warning."""
    return min(verdicts, key=WORST_FIRST.index)


def as_json(value: Any) -> Any:
    """A figure as JSON values; numbers that are not finite as text."""
    if isinstance(value, Interval):
        return {"value": as_json(value.value), "low": as_json(value.low), "high": as_json(value.high)}
    if isinstance(value, dict):
        return {str(name): as_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return round(value, 6) if abs(value) < float("inf") else str(value)
    return value
