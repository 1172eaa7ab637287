"""What a bisect is asked for, and the verdict on a commit from the values of its runs."""

from __future__ import annotations

import math
import operator
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rlwatch.offline.workplace import key_of

Verdict = Literal["good", "bad", "skip"]

_COMPARE = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_CONDITION = re.compile(r"\s*(>=|<=|>|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


@dataclass(frozen=True)
class Plan:
    """What is asked for.

    Attributes:
        command: for a shell; `{out}` and `{seed}` are filled in.
        metric: a canonical signal, or a key of the log.
        condition: what a good commit's value satisfies, as "> 0.87".
        window: how many of the last logged values are averaged.
        repeats: runs of a commit at most; the median counts.
        prefix: the folder below the repository's top in which the command runs.
        limit_s: seconds for one run; None for no limit.
        log: where a run logs; "" to look for it.
        signal_map: signal, or `step`, to the log's key.
        nonfinite: what a run is whose window holds a NaN or an infinity.
    """

    command: str
    metric: str
    condition: str
    window: int = 10
    repeats: int = 1
    prefix: str = ""
    limit_s: float | None = None
    log: str = ""
    signal_map: Mapping[str, str] = field(default_factory=dict)
    nonfinite: Literal["bad", "skip"] = "bad"

    @property
    def key(self) -> str:
        """The same where a commit's values are: the condition judges them, and may change."""
        return key_of(self.command, self.metric, self.window, self.prefix, self.log, sorted(self.signal_map.items()))

    def holds(self, value: float) -> bool:
        """Whether a value is a good one; a NaN is none."""
        match = parsed(self.condition)
        return math.isfinite(value) and bool(_COMPARE[match[0]](value, match[1]))

    def as_dict(self) -> dict[str, Any]:
        """As plain values, which make the plan again."""
        return asdict(self)


def parsed(condition: str) -> tuple[str, float]:
    """The operator and the number; raises `ValueError`."""
    match = _CONDITION.fullmatch(condition)
    if match is None:
        raise ValueError(f"{condition!r} is no comparison with a number, as '> 0.87'")
    return match[1], float(match[2])


@dataclass(frozen=True)
class Attempt:
    """One run of the command at a commit.

    Attributes:
        value: mean of the window, which may be NaN; None where there is none.
        trouble: why there is none, one sentence.
        seconds: that it took.
        limited: whether it was ended for want of time.
    """

    value: float | None
    trouble: str = ""
    seconds: float = 0.0
    limited: bool = False


def decide(plan: Plan, attempts: Sequence[Attempt]) -> Verdict | None:
    """The verdict that the attempts so far give; None while another run may still change it.

    With n repeats, the median of n is good if more than half of them are: runs end as soon as so many agree, for more
    could not change it. Where they cannot agree any more, as too many failed or are tied, the commit is skipped.
    """
    needed = plan.repeats // 2 + 1
    values = [one.value for one in attempts if one.value is not None and usable(plan, one.value)]
    good = sum(plan.holds(value) for value in values)
    bad = len(values) - good
    if good >= needed:
        return "good"
    if bad >= needed:
        return "bad"
    left = plan.repeats - len(attempts)
    return "skip" if max(good, bad) + left < needed else None


def usable(plan: Plan, value: float) -> bool:
    """Whether a value counts."""
    return math.isfinite(value) or plan.nonfinite == "bad"


def middle(attempts: Sequence[Attempt]) -> float | None:
    """The median of the values; NaN where one is not finite; None without values."""
    values = [one.value for one in attempts if one.value is not None]
    if not values:
        return None
    return statistics.median(values) if all(map(math.isfinite, values)) else math.nan
