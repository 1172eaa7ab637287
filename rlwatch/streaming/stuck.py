"""How long a signal has hardly moved, between rows and within them."""

from __future__ import annotations

from typing import Any

_LEAK = 5
"""Rows that one row which moves takes back: a stretch survives a rare sample that differs."""

_COMMON = 0.4
"""Share of the rows of a stretch that are exactly still, at least; else it is no standstill, and begins anew."""

_BEFORE, _CHANCE = 20, 1e-5
"""Rows before a stretch that tell what is usual, and the chance of a stretch above which it is no news."""


class Stuck:
    """A stretch of rows that stay within a tolerance of one level.

    >>> stuck = Stuck()
    >>> for x in [0.3, 0.1, 0.1, 0.1]:
    ...     stuck.push(x, 0.01, still=x == 0.1)
    >>> stuck.rows, stuck.level
    (3, 0.1)

    Attributes:
        seen: all rows.
        rows: length of the stretch, less 5 for every row in it that moved.
        still: rows of it in which nothing moved at all.
        level: the value of its last row that was exactly still.
    """

    __slots__ = ("_all_still", "level", "rows", "seen", "still")

    def __init__(self) -> None:
        self.seen = self.rows = self.still = self._all_still = 0
        self.level = 0.0

    def push(self, x: float, tolerance: float, still: bool, spread: float = 0.0) -> None:
        """Take in a row: its value, what counts as near, whether nothing moved within it, and how much did."""
        away = x - self.level
        self.seen += 1
        self._all_still += still
        if self.rows and -tolerance <= away <= tolerance and spread <= tolerance:
            self.rows += 1
            if still:
                self.still += 1
                self.level = x
            elif self.still < _COMMON * self.rows - _LEAK:
                self.rows = self.still = 0
        elif self.rows > _LEAK:
            self.rows -= _LEAK
            self.still = max(0, self.still - _LEAK)
        else:
            self.rows = self.still = int(still)
            self.level = x

    def moves(self, x: float) -> None:
        """Take in a row that is not still, while there is no stretch."""
        self.seen += 1
        self.level = x

    def lasts(self, rows: int) -> bool:
        """Whether the stretch is that long, most of it exactly still, and more than chance.

        Where single rows without a difference are common (few samples, hard prompts) so are stretches of them: at the
        share of such rows before it, the stretch must be less likely than 1e-5.
        """
        if self.rows < rows or self.still < _COMMON * self.rows:
            return False
        before = self.seen - self.rows
        if before < _BEFORE:
            return True
        share = (max(0, self._all_still - self.still) + 1) / (before + 2)
        return bool(share**self.still <= _CHANCE)

    def state_dict(self) -> dict[str, Any]:
        """The stretch, and what came before it."""
        return {
            "seen": [self.seen, self._all_still],
            "rows": [self.rows, self.still],
            "level": self.level,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.seen, self._all_still = (int(n) for n in state["seen"])
        self.rows, self.still = (int(n) for n in state["rows"])
        self.level = float(state["level"])
