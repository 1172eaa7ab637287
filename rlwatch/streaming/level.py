"""Where a signal began and where it is now, for detectors that ask about a second signal."""

from __future__ import annotations

from typing import Any

from rlwatch.streaming import HUGE, bounded


class Level:
    """The mean of the first 5 values, and an exponential mean (weight 0.2) of all, which spikes do not move.

    >>> level = Level()
    >>> for x in [2.0] * 5 + [6.0] * 40:
    ...     level.push(x)
    >>> level.opening, round(level.now, 2)
    (2.0, 6.0)
    """

    __slots__ = ("now", "opening", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self.opening = 0.0
        self.now = 0.0

    def push(self, x: float | None) -> None:
        """Take in a finite value; None, for a row without one, changes nothing."""
        if x is None:
            return
        if not -HUGE <= x <= HUGE:
            x = bounded(x)
        self.rows = rows = self.rows + 1
        if rows <= 5:
            self.opening += (x - self.opening) / rows
            self.now = self.opening
        else:
            now = self.now
            if x > 2.0 * now > 0.0:
                x = 2.0 * now  # a single spike says nothing of the level
            self.now = now + 0.2 * (x - now)

    @property
    def times(self) -> float | None:
        """Now over then; None while young or when it began at zero or below."""
        return self.now / self.opening if self.rows > 5 and self.opening > 0.0 else None

    def state_dict(self) -> dict[str, Any]:
        """The two levels and the count."""
        return {"rows": self.rows, "opening": self.opening, "now": self.now}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.rows, self.opening, self.now = int(state["rows"]), float(state["opening"]), float(state["now"])
