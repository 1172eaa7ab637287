"""A fast and a slow running mean of a bounded signal: where it is, and which way it goes."""

from __future__ import annotations

from typing import Any

FAST, SLOW = 0.1, 0.03
"""Weights of a new row in the two means: they look back about 10 and 33 rows."""


class Means:
    """Two exponential means of a signal that its caller keeps within bounds, so that no single row moves them far.

    The first rows weigh the same. Unlike a median, a mean sees through a saw-tooth: the clip fraction that is 0 on
    the first of several passes, the step time that is long on every fourth row.

    >>> means = Means()
    >>> for x in [0.0, 0.6] * 50:
    ...     means.push(x)
    >>> round(means.fast, 1), round(means.slow, 1)
    (0.3, 0.3)

    Attributes:
        rows: values seen.
        fast: the mean of about the last 10 rows.
        slow: the mean of about the last 33 rows.
    """

    __slots__ = ("fast", "rows", "slow")

    def __init__(self) -> None:
        self.rows = 0
        self.fast = 0.0
        self.slow = 0.0

    def push(self, x: float) -> None:
        """Take in a finite value."""
        self.rows = rows = self.rows + 1
        young = 1.0 / rows
        self.fast += (young if young > FAST else FAST) * (x - self.fast)
        self.slow += (young if young > SLOW else SLOW) * (x - self.slow)

    def state_dict(self) -> dict[str, Any]:
        """The two means and the count."""
        return {"rows": self.rows, "fast": self.fast, "slow": self.slow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.rows, self.fast, self.slow = int(state["rows"]), float(state["fast"]), float(state["slow"])
