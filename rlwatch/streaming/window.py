"""A rolling window that knows its quantiles."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import Any


class SortedWindow:
    """The last `size` values, in order of arrival and sorted: exact quantiles at O(log n) a value.

    >>> window = SortedWindow(3)
    >>> for x in (5.0, 1.0, 2.0, 9.0):
    ...     window.push(x)
    >>> window.median, window.quantile(1.0)
    (2.0, 9.0)
    """

    __slots__ = ("_arrived", "_sorted", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._arrived: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._sorted)

    def push(self, x: float) -> None:
        """Take in a finite value; the oldest leaves a full window."""
        if len(self._arrived) >= self.size:
            del self._sorted[bisect_left(self._sorted, self._arrived.popleft())]
        self._arrived.append(x)
        insort(self._sorted, x)

    @property
    def values(self) -> list[float]:
        """The values, oldest first."""
        return list(self._arrived)

    def quantile(self, q: float) -> float:
        """The value at rank round(q * (n - 1)), without interpolation; the window must not be empty."""
        return self._sorted[int(q * (len(self._sorted) - 1) + 0.5)]

    @property
    def median(self) -> float:
        """The middle value (the upper one of two)."""
        return self._sorted[len(self._sorted) // 2]

    @property
    def sigma(self) -> float:
        """A spread that outliers do not move: interquartile range / 1.349, sigma for Gaussian values."""
        ordered = self._sorted
        n = len(ordered)
        return (ordered[(3 * n) // 4] - ordered[n // 4]) / 1.349 if n > 3 else 0.0

    def state_dict(self) -> dict[str, Any]:
        """The values in order of arrival."""
        return {"values": list(self._arrived)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._arrived = deque(float(x) for x in state["values"][-self.size :])
        self._sorted = sorted(self._arrived)
