"""Where a signal stood when the run began."""

from __future__ import annotations

from typing import Any

from rlwatch.streaming import bounded


class Opening:
    """The median of the first `size` values; it moves while they come in, then, `full`, never again.

    >>> opening = Opening(3)
    >>> for x in (4.0, 2.0, 3.0, 0.0):
    ...     opening.push(x)
    >>> opening.level
    3.0
    """

    __slots__ = ("_values", "full", "level", "size")

    def __init__(self, size: int = 10) -> None:
        self.size = size
        self._values: list[float] = []
        self.level = 0.0
        self.full = False

    def __len__(self) -> int:
        return len(self._values)

    def push(self, x: float) -> None:
        """Take in a finite value; ignored once `size` have come."""
        if len(self._values) < self.size:
            self._values.append(bounded(x))
            self.level = sorted(self._values)[len(self._values) // 2]
            self.full = len(self._values) == self.size

    def state_dict(self) -> dict[str, Any]:
        """The values, oldest first."""
        return {"values": list(self._values)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._values, self.full = [], False
        for x in state["values"]:
            self.push(float(x))
