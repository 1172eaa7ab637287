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
    >>> window.quantile(0.5), window.quantile(1.0)
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
        arrived, ordered = self._arrived, self._sorted
        if len(ordered) >= self.size:
            del ordered[bisect_left(ordered, arrived.popleft())]
        arrived.append(x)
        insort(ordered, x)

    def quantile(self, q: float) -> float:
        """The value at rank round(q * (n - 1)), without interpolation; the window must not be empty."""
        return self._sorted[int(q * (len(self._sorted) - 1) + 0.5)]

    def middle_and_sigma(self) -> tuple[float, float, int]:
        """The median (the upper one of two), a spread that outliers do not move, and the count.

        The spread is the interquartile range / 1.349, which is sigma for Gaussian values; the window must not be empty.
        """
        ordered = self._sorted
        n = len(ordered)
        return ordered[n // 2], (ordered[(3 * n) // 4] - ordered[n // 4]) / 1.349 if n > 3 else 0.0, n

    def state_dict(self) -> dict[str, Any]:
        """The values in order of arrival."""
        return {"values": list(self._arrived)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._arrived = deque(float(x) for x in state["values"][-self.size :])
        self._sorted = sorted(self._arrived)
