"""Values that a detector need not look at now."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import NamedTuple

BELOW_ZERO = -5e-324
"""The largest number below zero, for a gate that zero may pass: its ends do not."""


class Gate:
    """Between `low` and `high` a signal tells its detector nothing: such rows may wait, to be taken in together.

    Whoever opens a gate answers for it: whatever values between the two come next, `room` of them at most, no row of
    them has anything to say, and taking them in later has the same effect.

    Attributes:
        low, high: the ends, which do not pass; closed while they are equal.
        room: rows that may wait; the next one is its detector's to look at, which then takes them in.
        most: where a second signal counts as well, what it must be below.
        held: the values that wait, oldest first.
        rows: likewise the signals of whole rows, where the detector wants those.
    """

    __slots__ = ("held", "high", "low", "most", "room", "rows")

    def __init__(self, room: int) -> None:
        self.low = self.high = 0.0
        self.most = inf
        self.room = room
        self.held: list[float] = []
        self.rows: list[Mapping[str, float]] = []

    def close(self) -> None:
        """Let nothing pass, and forget what waits."""
        self.low = self.high = 0.0
        self.held, self.rows = [], []


class Passage(NamedTuple):
    """A gate, and the signal that passes through it; `whole` where its row waits, and not the value alone.

    The signal `other` must be below the gate's `most`; "" for none.
    """

    signal: str
    gate: Gate
    whole: bool = False
    other: str = ""
