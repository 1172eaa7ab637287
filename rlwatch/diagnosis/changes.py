"""Settings that were changed in mid-run: what somebody who looks for a cause would like to be told first."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

RATES = ("learning_rate", "critic_learning_rate")
"""Only ever told of when they rise above all they were: falling is what schedules do."""

WEIGHTS = ("kl_coef", "entropy_coef", "clip_range")

SETTINGS = (*RATES, *WEIGHTS)

TIMES = 2.0
"""A setting that changes by more than this from one row to the next was changed: schedules and controllers take
smaller steps (linear and cosine ones over ten rows, Ziegler et al.'s controller of the KL penalty by .2 at most)."""

FIRST = 10
"""Rows in which a rate warms up."""

BEFORE = 64
"""Rows before the first alert in which a change is told of."""

_MOST = 16


class Change(NamedTuple):
    """One setting, from one row to the next."""

    step: int
    name: str
    before: float
    after: float

    def __str__(self) -> str:
        times = f" ({self.after / self.before:.3g}x)" if self.before else ""
        return f"{self.name} {self.before:.3g} -> {self.after:.3g}{times} at step {self.step}"


class Changes:
    """The last 16 changes of a run, in O(1) a row.

    >>> changes = Changes()
    >>> for row in range(40):
    ...     changes.push(row, row, {"learning_rate": 1e-4 if row == 30 else 1e-6})
    >>> [str(one) for one in changes]
    ['learning_rate 1e-06 -> 0.0001 (100x) at step 30']
    """

    def __init__(self) -> None:
        self._found: deque[Change] = deque(maxlen=_MOST)
        self._last: dict[str, float] = {}
        self._most: dict[str, float] = {}

    def __iter__(self) -> Iterator[Change]:
        return iter(self._found)

    def push(self, step: int, row: int, signals: Mapping[str, float]) -> None:
        """Take in one row: its finite signals."""
        for name in SETTINGS:
            if name in signals and signals[name] != self._last.get(name):
                self._take(step, row, name, signals[name])

    def _take(self, step: int, row: int, name: str, now: float) -> None:
        before = self._last.get(name)
        self._last[name] = now
        if name in RATES:
            most = self._most.get(name, 0.0)
            if now > most:
                self._most[name] = now
            changed = now > TIMES * most and row >= FIRST
        else:
            changed = before is not None and (now > TIMES * before or TIMES * now < before)
        if changed and before is not None:
            self._found.append(Change(step, name, before, now))
