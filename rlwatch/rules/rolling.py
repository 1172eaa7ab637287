"""The mean, extremes, median or spread of the last rows."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from math import sqrt
from typing import Any, Protocol

from rlwatch.streaming.window import SortedWindow

FUNCTIONS = ("mean", "median", "min", "max", "std")

Moments = tuple[int, float, float]
"""Count, mean, and sum of squared distances from it."""


class Window(Protocol):
    """The last `size` values and one number that they amount to."""

    def push(self, x: float) -> None:
        """Take in a finite value; the oldest leaves a full window."""

    def result(self) -> float | None:
        """The number; None while the window is not full."""

    def state_dict(self) -> dict[str, Any]:
        """The values as JSON."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""


class Rolling:
    """A fold over the last `size` values, in O(1) a row on average whatever the size.

    Two stacks make a queue: the newer values are folded as they come, the older ones were folded from their newest
    backwards when the queue was turned over, so that the oldest can leave without an inverse. A value that has left
    leaves no rounding error behind, as it would in a running sum.

    >>> window = Rolling(3, fold=max)
    >>> for x in (5.0, 1.0, 2.0):
    ...     window.push(x)
    >>> first = window.result()
    >>> window.push(0.0)
    >>> first, window.result()
    (5.0, 2.0)
    """

    __slots__ = ("_finish", "_fold", "_folded", "_lift", "_new", "_old", "_older", "size")

    def __init__(
        self,
        size: int,
        fold: Callable[[Any, Any], Any],
        lift: Callable[[float], Any] | None = None,
        finish: Callable[[Any], float] | None = None,
    ) -> None:
        self.size = size
        self._fold, self._lift, self._finish = fold, lift, finish
        self._old: list[float] = []  # newest first: the oldest value is the last
        self._older: list[Any] = []  # for each of them, the fold of it and all old ones after it
        self._new: list[float] = []
        self._folded: Any = None

    def push(self, x: float) -> None:
        """Take in a finite value; the oldest leaves a full window."""
        old, new = self._old, self._new
        if len(old) + len(new) >= self.size:
            if not old:
                self._turn(reversed(new))
                new.clear()
            self._old.pop()
            self._older.pop()
        lifted = x if self._lift is None else self._lift(x)
        self._folded = self._fold(self._folded, lifted) if new else lifted
        new.append(x)

    def _turn(self, newest_first: Iterable[float]) -> None:
        self._old = list(newest_first)
        self._older = []
        for x in self._old:
            lifted = x if self._lift is None else self._lift(x)
            self._older.append(self._fold(lifted, self._older[-1]) if self._older else lifted)

    def result(self) -> float | None:
        """The fold of the last `size` values; None while there are fewer."""
        older = self._older
        if len(older) + len(self._new) < self.size:
            return None
        folded = self._fold(older[-1], self._folded) if older else self._folded
        return float(folded) if self._finish is None else self._finish(folded)

    def state_dict(self) -> dict[str, Any]:
        """The values, oldest first, and how many came after the last turn: sums are restored to the last bit."""
        return {"values": [*reversed(self._old), *self._new], "new": len(self._new)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        values = [float(x) for x in state["values"]][-self.size :]
        turned = max(0, len(values) - int(state["new"]))
        self._turn(reversed(values[:turned]))
        self._new = []
        for x in values[turned:]:
            self.push(x)


class Middle(SortedWindow):
    """The median of the last `size` values, the upper one of two."""

    __slots__ = ()

    def result(self) -> float | None:
        """The median; None while the window is not full."""
        return self.quantile(0.5) if len(self) == self.size else None


def _merged(a: Moments, b: Moments) -> Moments:
    """Moments of two groups together (Chan, Golub and LeVeque 1983): no cancellation at a large mean."""
    n = a[0] + b[0]
    away = b[1] - a[1]
    return n, a[1] + away * b[0] / n, a[2] + b[2] + away * away * a[0] * b[0] / n


def window(function: str, rows: int) -> Window:
    """The window of a rule's function: `mean`, `min`, `max`, `median` or `std` (divided by rows - 1)."""
    if function == "mean":
        return Rolling(rows, operator.add, finish=lambda total: float(total) / rows)
    if function == "std":
        return Rolling(rows, _merged, lambda x: (1, x, 0.0), lambda m: sqrt(m[2] / (rows - 1)))
    if function == "median":
        return Middle(rows)
    return Rolling(rows, _lower if function == "min" else _higher)


def _lower(a: float, b: float) -> float:
    return a if a < b else b


def _higher(a: float, b: float) -> float:
    return a if a > b else b
