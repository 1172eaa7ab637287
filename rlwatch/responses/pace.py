"""What a learning-rate schedule made of its base rate, for runs whose states are checkpoints on disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rlwatch.responses.history import History
from rlwatch.responses.reward_scale import Well

KEPT = 64
"""Checkpoints whose factor is remembered."""


class Paced(NamedTuple):
    """The schedule's factor at a row; None where it is not known."""

    row: int
    factor: float | None


class Pace:
    """The factors at the checkpoints so far. A snapshot in memory keeps its own; on disk there is no room for it.

    A factor is the rate by its base rate: remedies change both, and so does whoever sets another rate.
    """

    def __init__(self) -> None:
        self._seen: deque[Paced] = deque(maxlen=KEPT)

    def push(self, row: int, factor: float | None) -> None:
        """A checkpoint of the weights that this row is measured on."""
        self._seen.append(Paced(row, factor))

    def risen(self, factor: float | None, row: int) -> float:
        """How far it has risen by now above all that it was up to a row; 1 if it has not, or nothing is known."""
        return History.risen(factor, [each for each in self._seen if each.row <= row])

    def forget(self, well: Well) -> None:
        """The run went back from its trouble: the checkpoints in it count no more."""
        self.put_back([each for each in self._seen if well(each.row)])

    def values(self) -> list[Paced]:
        """All of them, as JSON can keep them."""
        return list(self._seen)

    def put_back(self, values: Iterable[Sequence[float | None]]) -> None:
        """What `values` gave, of this run or of one that is resumed."""
        kept = [Paced(int(row or 0), factor) for row, factor in values]
        self._seen.clear()
        self._seen.extend(kept)
