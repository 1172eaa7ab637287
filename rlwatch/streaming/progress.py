"""Is the reward still rising? Many signals are ambiguous without it."""

from __future__ import annotations

from collections import deque
from math import sqrt
from typing import Any

OPENING = 10
SPAN = 60
RECENT = 20


class Progress:
    """The run's reward: its first rows, its last 60, and what may be said of its direction.

    Cheap to push to; the questions are asked only when another signal looks wrong.
    """

    __slots__ = ("_opening", "_span", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self._opening: list[float] = []
        self._span: deque[float] = deque(maxlen=SPAN)

    def push(self, x: float | None) -> None:
        """Take in the reward of a row, None when the row has none."""
        if x is None:
            return
        self.rows += 1
        if len(self._opening) < OPENING:
            self._opening.append(x)
        self._span.append(x)

    @property
    def recent(self) -> list[float]:
        """The last rows, at most 20 and at most half of what there is."""
        count = max(1, min(RECENT, len(self._span) // 2))
        return list(self._span)[-count:]

    def rising_since_start(self) -> bool:
        """Whether the last rows are better than the first by more than the noise."""
        if self.rows < 6:
            return False
        first = self._opening[: max(3, min(OPENING, self.rows // 2))]
        return _above(self.recent, first)

    def rising_lately(self) -> bool:
        """Whether the last rows are better than the rows 30-60 back by more than the noise."""
        if len(self._span) < SPAN // 2 + OPENING:
            return self.rising_since_start()
        return _above(self.recent, list(self._span)[: len(self._span) - SPAN // 2])

    def state_dict(self) -> dict[str, Any]:
        """The rewards kept, oldest first."""
        return {"rows": self.rows, "opening": list(self._opening), "span": list(self._span)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.rows = int(state["rows"])
        self._opening = [float(x) for x in state["opening"]]
        self._span = deque((float(x) for x in state["span"]), maxlen=SPAN)


def _above(high: list[float], low: list[float]) -> bool:
    """Whether the mean of `high` exceeds that of `low` by 2.5 standard errors and 5 % of its size."""
    mean_high, var_high = _moments(high)
    mean_low, var_low = _moments(low)
    error = sqrt(var_high / len(high) + var_low / len(low))
    return mean_high - mean_low > max(2.5 * error, 0.05 * abs(mean_low))


def _moments(values: list[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    spread = sum((x - mean) ** 2 for x in values) / max(1, len(values) - 1)
    return mean, spread
