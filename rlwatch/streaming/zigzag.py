"""Turning points of a signal that swings."""

from __future__ import annotations

from collections import deque
from typing import Any


class Zigzag:
    """Turning points between swings of at least `swing`, and whether `turns` of them came within `span` rows.

    >>> zigzag = Zigzag(swing=1.0, turns=3, span=20)
    >>> [zigzag.push(x) for x in (0.0, 2.0, 0.0, 2.0, 2.0)]
    [False, False, False, True, True]

    Attributes:
        low, high: the range since the turn before the last.
    """

    __slots__ = ("_rows", "_turns", "_up", "high", "low", "span", "swing", "turns")

    def __init__(self, swing: float, turns: int, span: int) -> None:
        self.swing, self.turns, self.span = swing, turns, span
        self.low = self.high = 0.0
        self._up: bool | None = None
        self._rows = 0
        self._turns: deque[int] = deque(maxlen=turns)

    def push(self, x: float) -> bool:
        """Take in a finite value."""
        self._rows = rows = self._rows + 1
        if rows == 1:
            self.low = self.high = x
        if self._up is not True and x > self.low + self.swing:
            self._turn(True, x)
        elif self._up is not False and x < self.high - self.swing:
            self._turn(False, x)
        elif x > self.high and self._up is not False:
            self.high = x
        elif x < self.low and self._up is not True:
            self.low = x
        return len(self._turns) == self.turns and rows - self._turns[0] < self.span

    def _turn(self, up: bool, x: float) -> None:
        self._up = up
        self._turns.append(self._rows)
        if up:
            self.high = x
        else:
            self.low = x

    def state_dict(self) -> dict[str, Any]:
        """The range, the direction and the rows of the last turns."""
        return {
            "range": [self.low, self.high], "up": self._up, "rows": self._rows, "turns": list(self._turns),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.low, self.high = (float(x) for x in state["range"])
        self._up = state["up"]
        self._rows = int(state["rows"])
        self._turns = deque((int(row) for row in state["turns"]), maxlen=self.turns)
