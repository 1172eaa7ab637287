"""A signal that had a level and is now zero."""

from __future__ import annotations

from typing import Any

_SHARE = 1e-3
"""A signal below this share of its level counts as gone."""


class Vanish:
    """Counts the rows in a row in which a signal is gone.

    Zeros come and go in healthy runs (all groups tied: up to 25 rows in a row were measured), so callers ask for more.

    Attributes:
        rows: how many rows in a row it has been gone.
        level: what it was before.
    """

    __slots__ = ("level", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self.level = 0.0

    def push(self, x: float, level: float | None) -> int:
        """Take in a value >= 0 and the signal's level, None while that is unknown; how long it has been gone."""
        if self.rows:
            level = self.level  # a baseline that follows the fall is no measure of it
        if level is None or x > _SHARE * level:
            self.rows = 0
        else:
            self.rows += 1
            self.level = level
        return self.rows

    def state_dict(self) -> dict[str, Any]:
        """The level and the count."""
        return {"rows": self.rows, "level": self.level}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.rows, self.level = int(state["rows"]), float(state["level"])
