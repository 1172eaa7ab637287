"""How long a trouble has lasted, when single rows say nothing."""

from __future__ import annotations

from typing import Any


class Streak:
    """Rows in trouble, net of the rows that are not: between 0 and `limit`.

    A trouble that flickers is still counted, one row in two is not.

    >>> streak = Streak(3)
    >>> [streak.push(bad) for bad in (True, True, False, True, True)]
    [False, False, False, False, True]

    Attributes:
        limit: the count at which the trouble is called lasting.
        rows: the count.
    """

    __slots__ = ("limit", "rows")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.rows = 0

    def push(self, bad: bool) -> bool:
        """Count a row; whether it is in trouble itself and the trouble lasts."""
        if not bad:
            if self.rows:
                self.rows -= 1
            return False
        if self.rows < self.limit:
            self.rows += 1
        return self.rows >= self.limit

    def state_dict(self) -> dict[str, Any]:
        """The count."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.rows = min(self.limit, int(state["rows"]))
