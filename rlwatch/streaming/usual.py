"""What is usual for a positive signal, at a fraction of a rolling window's cost."""

from __future__ import annotations

from collections import deque
from math import exp, log
from typing import Any

TINY = 1e-9
_LOG_TINY = log(TINY)

_REACH = 3.0
"""Sigmas at which a value is clipped before it enters."""

_DELAY = 8
"""Rows whose spread does not count yet."""


class Usual:
    """A slow mean of log x, and the spread around it (1.25 x the mean distance).

    The first values weigh the same, later ones 1/`span`: the level follows a healthy trend and hardly learns from an
    outbreak, whose values are clipped to 3 sigma. The spread is that of 8 rows ago (of half the rows while
    there are few), so that an outbreak does not widen it while it is judged. While young, it is widened by 1 + 6/n.

    >>> usual = Usual(span=50)
    >>> for x in [2.0] * 50:
    ...     usual.push(x)
    >>> round(usual.level, 6), round(usual.sigmas(4.0), 2)
    (2.0, 3.09)
    """

    __slots__ = ("_spreads", "floor", "middle", "rows", "span")

    def __init__(self, span: int = 50, floor: float = 0.2) -> None:
        self.span = span
        self.floor = floor
        self.rows = 0
        self.middle = 0.0
        self._spreads: deque[float] = deque([0.0], maxlen=_DELAY + 1)

    def push(self, x: float) -> None:
        """Take in a finite value; what is not above zero counts as 1e-9."""
        y = log(x) if x > TINY else _LOG_TINY
        self.rows = rows = self.rows + 1
        weight = 1.0 / (rows if rows < self.span else self.span)
        away = y - self.middle
        if rows > 1:
            spread = self._spreads[-1]
            reach = _REACH * (spread if spread > self.floor else self.floor)
            if away > reach:
                away = reach
            elif away < -reach:
                away = -reach
            self._spreads.append(spread + weight * (1.25 * (away if away > 0.0 else -away) - spread))
        self.middle += weight * away

    @property
    def level(self) -> float:
        """The usual value."""
        return exp(self.middle)

    @property
    def sigma(self) -> float:
        """The spread on the log scale (0.2 is about +-20 %)."""
        spreads = self._spreads
        spread = spreads[0] if self.rows > 2 * _DELAY else spreads[len(spreads) // 2]
        return max(spread, self.floor) * (1.0 + 6.0 / max(1, self.rows))

    def sigmas(self, x: float) -> float:
        """How far x lies above what is usual, on the log scale; below zero when under it."""
        return ((log(x) if x > TINY else _LOG_TINY) - self.middle) / self.sigma

    @property
    def spread(self) -> float:
        """The spread of 8 rows ago on the log scale, without the floor."""
        return self._spreads[0]

    def reach(self, rows: int) -> float:
        """How far the middle can move within so many rows, whatever comes; 1,000 while it is young."""
        if self.rows < self.span:
            return 1e3
        weight = 1.0 / self.span
        most = max(self._spreads[-1], self.floor) * (1.0 + (1.25 * _REACH - 1.0) * weight) ** rows
        return rows * weight * _REACH * most

    def state_dict(self) -> dict[str, Any]:
        """The level, the spread and the count."""
        return {"rows": self.rows, "middle": self.middle, "spreads": list(self._spreads)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.rows, self.middle = int(state["rows"]), float(state["middle"])
        self._spreads = deque((float(x) for x in state["spreads"]), maxlen=_DELAY + 1)
