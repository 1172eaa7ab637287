"""The mean of the last rows against that of the first."""

from __future__ import annotations

from math import sqrt
from typing import Any

_LEAST_ERROR = 0.02
"""Standard error of a shift, at least: shares that never differed so far are not known to the last digit."""


class Shift:
    """The first `rows` values and the last.

    >>> shift = Shift(2)
    >>> for x in (0.0, 0.0, 0.3, 0.5):
    ...     shift.push(x)
    >>> shift.was, shift.now
    (0.0, 0.4)
    """

    __slots__ = ("_opening", "_present", "rows")

    def __init__(self, rows: int = 16) -> None:
        self.rows = rows
        self._opening: list[float] = []
        self._present: list[float] = []

    def push(self, x: float) -> None:
        """Take in a finite value."""
        if len(self._opening) < self.rows:
            self._opening.append(x)
        self._present.append(x)
        if len(self._present) > self.rows:
            del self._present[0]

    @property
    def full(self) -> bool:
        """Whether there are enough values to compare."""
        return len(self._opening) == self.rows

    @property
    def was(self) -> float:
        """Mean of the first values."""
        return sum(self._opening) / len(self._opening)

    @property
    def now(self) -> float:
        """Mean of the last values."""
        return sum(self._present) / len(self._present)

    @property
    def error(self) -> float:
        """Standard error of `now` less `was`."""
        total = 0.0
        for values, mean in ((self._opening, self.was), (self._present, self.now)):
            total += sum((x - mean) * (x - mean) for x in values) / (max(1, len(values) - 1) * len(values))
        return max(sqrt(total), _LEAST_ERROR)

    def state_dict(self) -> dict[str, Any]:
        """The values, oldest first."""
        return {"opening": list(self._opening), "present": list(self._present)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._opening = [float(x) for x in state["opening"]]
        self._present = [float(x) for x in state["present"]]
