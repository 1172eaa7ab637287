"""A signal that had a level and is now zero."""

from __future__ import annotations

from typing import Any

from rlwatch.streaming.window import SortedWindow


class Vanish:
    """Counts the rows in a row in which a positive signal is below `share` of the level it used to have.

    A level takes `min_rows` values above zero to know. Zeros come and go in healthy runs (all groups tied: up to 25
    rows in a row were measured), so callers ask for more rows than that.
    """

    __slots__ = ("_levels", "min_rows", "rows", "share")

    def __init__(self, share: float = 1e-3, min_rows: int = 20) -> None:
        self.share = share
        self.min_rows = min_rows
        self.rows = 0
        self._levels = SortedWindow(50)

    @property
    def level(self) -> float:
        """The median of what the signal was before it vanished; 0 while there is none."""
        return self._levels.median if len(self._levels) else 0.0

    def push(self, x: float) -> int:
        """Take in a value >= 0; how many rows in a row it has been gone."""
        if x > self.share * self.level:
            self.rows = 0
            self._levels.push(x)
        elif len(self._levels) >= self.min_rows:
            self.rows += 1
        return self.rows

    def state_dict(self) -> dict[str, Any]:
        """The levels and the count."""
        return {"rows": self.rows, "levels": self._levels.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.rows = int(state["rows"])
        self._levels.load_state_dict(state["levels"])
