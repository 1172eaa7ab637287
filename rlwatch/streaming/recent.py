"""The level of the last few rows, which one or two odd rows do not move."""

from __future__ import annotations

from collections import deque
from typing import Any


class Recent:
    """The last `size` values.

    >>> recent = Recent(5)
    >>> for x in (1.0, 50.0, 1.0):
    ...     recent.push(x)
    >>> recent.median_of(3), recent.median_of(5)
    (1.0, None)
    """

    __slots__ = ("push", "size", "values")

    def __init__(self, size: int) -> None:
        self.size = size
        self._hold(deque(maxlen=size))

    def _hold(self, values: deque[float]) -> None:
        self.values = values
        self.push = values.append

    def median_of(self, rows: int) -> float | None:
        """The median of the last `rows` (odd), which up to rows // 2 spikes do not move; None while there are fewer."""
        values = self.values
        if len(values) < rows:
            return None
        if rows == 3:
            a, b, c = values[-1], values[-2], values[-3]
            return max(min(a, b), min(max(a, b), c))
        return sorted([values[-i] for i in range(1, rows + 1)])[rows // 2]

    def state_dict(self) -> dict[str, Any]:
        """The values, oldest first."""
        return {"values": list(self.values)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._hold(deque((float(x) for x in state["values"]), maxlen=self.size))
