"""A trend at whatever time scale it happens, in constant memory."""

from __future__ import annotations

from math import sqrt
from typing import Any, NamedTuple

from rlwatch.streaming import HUGE, bounded

LIMIT = 16


class Trend(NamedTuple):
    """Blocks in a row that moved one way: `rows` they cover, mean of the `first` and `last`, and the noise."""

    rows: int
    first: float
    last: float
    error: float

    @property
    def change(self) -> float:
        """Last block minus first."""
        return self.last - self.first


class Blocks:
    """Means of consecutive blocks of rows; when there are 16, neighbours merge and blocks double in length.

    A slow trend is seen at the same cost as a fast one: the blocks always cover the whole run.
    """

    __slots__ = ("_count", "_sum", "_total", "blocks", "length", "start")

    def __init__(self, start: int = 4) -> None:
        self.start = start
        self.length = start
        self.blocks: list[list[float]] = []
        self._count = 0
        self._sum = 0.0
        self._total = 0.0

    @property
    def left(self) -> int:
        """How many values complete the block."""
        return self.length - self._count

    def push(self, x: float) -> bool:
        """Take in a finite value; True when it completes a block."""
        if not -HUGE <= x <= HUGE:
            x = bounded(x)
        self._count = count = self._count + 1
        self._sum += x
        self._total += x * x
        if count < self.length:
            return False
        mean = self._sum / self._count
        spread = max(0.0, self._total / self._count - mean * mean) * self._count / (self._count - 1)
        self.blocks.append([mean, spread])
        self._count, self._sum, self._total = 0, 0.0, 0.0
        if len(self.blocks) == LIMIT:
            self.blocks = [_merged(a, b) for a, b in zip(self.blocks[::2], self.blocks[1::2], strict=True)]
            self.length *= 2
        return True

    def trend(self, at_least: int = 6) -> Trend | None:
        """The longest stretch of blocks up to the last that all moved one way, if it has `at_least` blocks."""
        means = [block[0] for block in self.blocks]
        if len(means) < at_least:
            return None
        sign = 1.0 if means[-1] > means[-2] else -1.0
        first = len(means) - 1
        while first > 0 and sign * (means[first] - means[first - 1]) > 0.0:
            first -= 1
        if len(means) - first < at_least:
            return None
        spread = sum(block[1] for block in self.blocks[first:]) / (len(means) - first)
        error = sqrt(2.0 * spread / self.length)
        return Trend((len(means) - first) * self.length, means[first], means[-1], error)

    @property
    def range(self) -> float:
        """Distance from the lowest to the highest block."""
        means = [block[0] for block in self.blocks]
        return max(means) - min(means) if means else 0.0

    def state_dict(self) -> dict[str, Any]:
        """The blocks and the one being filled."""
        return {
            "length": self.length,
            "blocks": [list(block) for block in self.blocks],
            "filling": [self._count, self._sum, self._total],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.length = int(state["length"])
        self.blocks = [[float(x) for x in block] for block in state["blocks"]]
        count, self._sum, self._total = state["filling"]
        self._count = int(count)


def _merged(a: list[float], b: list[float]) -> list[float]:
    mean = (a[0] + b[0]) / 2
    return [mean, (a[1] + b[1]) / 2 + (a[0] - b[0]) ** 2 / 4]
