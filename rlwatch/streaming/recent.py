"""The level of the last few rows, which one or two odd rows do not move."""

from __future__ import annotations

from collections import deque
from typing import Any


class Recent:
    """The last `size` values (size odd): their median ignores up to size // 2 spikes.

    >>> recent = Recent(3)
    >>> [recent.push(x) for x in (1.0, 50.0, 1.0)]
    [None, None, 1.0]
    """

    __slots__ = ("_values", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._values: deque[float] = deque(maxlen=size)

    def push(self, x: float) -> float | None:
        """Take in a finite value; the median of the last `size`, or None while there are fewer."""
        values = self._values
        values.append(x)
        if len(values) < self.size:
            return None
        return sorted(values)[self.size // 2]

    def __len__(self) -> int:
        return len(self._values)

    @property
    def values(self) -> list[float]:
        """The values, oldest first."""
        return list(self._values)

    @property
    def mean(self) -> float:
        """The mean of the values; there must be one."""
        return sum(self._values) / len(self._values)

    @property
    def lowest(self) -> float:
        """The smallest of the values; there must be one."""
        return min(self._values)

    def state_dict(self) -> dict[str, Any]:
        """The values, oldest first."""
        return {"values": list(self._values)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._values = deque((float(x) for x in state["values"]), maxlen=self.size)
