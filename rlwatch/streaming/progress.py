"""Is the reward still rising? Many signals are ambiguous without it."""

from __future__ import annotations

from collections import deque
from math import sqrt
from typing import Any

from rlwatch.streaming import HUGE, bounded
from rlwatch.streaming.followed import Followed

SPAN = 60
RECENT = 20
WEIGHT = 0.1
"""Of a new row in the running mean: it looks back about ten rows."""

_STEADY = 10
"""Rows from which on each has that weight; the first weigh the same."""


class Progress(Followed):
    """The run's reward: a running level and the last 60 rows.

    Cheap to push to; the questions are asked only when another signal looks wrong. Several detectors may share one:
    `follow` takes in a row once, whoever asks first.

    Attributes:
        rows: the rows that had a reward.
        level, var: its running mean, and the variance around it.
    """

    __slots__ = ("_span", "level", "rows", "var")

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0
        self.level = 0.0
        self.var = 0.0
        self._span: deque[float] = deque(maxlen=SPAN)

    def push(self, x: float) -> None:
        """Take in the reward of a row."""
        if not -HUGE <= x <= HUGE:
            x = bounded(x)
        self.rows = rows = self.rows + 1
        self._span.append(x)
        weight = WEIGHT if rows >= _STEADY else 1.0 / rows
        away = x - self.level
        self.level = level = self.level + weight * away
        self.var += weight * (away * (x - level) - self.var)

    def mark(self) -> list[float]:
        """The level of now, for the caller to keep: `rising_since` compares with it."""
        return [self.level, self.var, self.rows]

    def rising_since(self, mark: list[float]) -> bool:
        """Whether the last rows are better than the level at the mark by more than the noise."""
        level, var, row, *_ = mark
        count = int(min(RECENT, self.rows - row))
        if count < 3:
            return False
        back = WEIGHT / (2.0 - WEIGHT)  # the variance of an exponential mean, in variances of a row
        young = 1.0 + 4.0 / max(1, row)  # a level made of a few rows is itself uncertain
        return _above(list(self._span)[-count:], level, var * max(back, 1.0 / max(1, row)), young)

    def rising_lately(self) -> bool:
        """Whether the last rows are better than the rows 30-60 back by more than the noise."""
        span = list(self._span)
        cut = min(SPAN // 2, len(span) // 2)
        if cut < 5:
            return False
        before = span[: len(span) - cut]
        mean, var = _moments(before)
        return _above(span[-min(RECENT, cut) :], mean, var / len(before))

    def rising_now(self) -> bool:
        """Whether the last 5 rows are better than the 10 before by more than the noise of those."""
        span = list(self._span)
        if len(span) < 15:
            return False
        mean, var = _moments(span[-15:-5])
        return _above(span[-5:], mean, var / 10)

    def state_dict(self) -> dict[str, Any]:
        """The level, the mark and the rewards kept, oldest first."""
        return {
            "rows": self.rows,
            "level": self.level,
            "var": self.var,
            "span": list(self._span),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.rows = int(state["rows"])
        self.level, self.var = float(state["level"]), float(state["var"])
        self._span = deque((float(x) for x in state["span"]), maxlen=SPAN)


def _above(high: list[float], low: float, error_squared: float, young: float = 1.0) -> bool:
    """Whether the mean of `high` exceeds `low` by 2.5 standard errors (times `young`) and 5 % of its size."""
    mean, var = _moments(high)
    return mean - low > max(2.5 * young * sqrt(var / len(high) + error_squared), 0.05 * abs(low))


def _moments(values: list[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    spread = sum((x - mean) ** 2 for x in values) / max(1, len(values) - 1)
    return mean, spread
