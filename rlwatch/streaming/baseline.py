"""The level and spread that a positive, heavy-tailed signal has when nothing is wrong."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from math import exp
from typing import Any, NamedTuple

from rlwatch.streaming.window import SortedWindow

WINSOR = 3.0
"""Values are clipped to this many sigma before they enter: an anomaly hardly teaches the baseline, yet a new level
that lasts becomes the baseline after about half a window."""

TRUSTED = 8
"""Values that it takes to know a sigma."""

HELD = 8
"""Ordinary values that may wait to be put in their place."""

NOTABLE = 2.0
"""Sigmas above the median below which a value is ordinary."""


class Bounds(NamedTuple):
    """What holds for the next `HELD` values of a full window, whatever they are.

    A value between `low` and `high` is for certain neither clipped nor `NOTABLE` sigmas above the median, which stays
    between `least` and `most`.
    """

    low: float
    high: float
    least: float
    most: float


UNKNOWN = Bounds(0.0, 0.0, 0.0, 0.0)
"""Bounds between which no value lies."""

MARGIN = 1e-9
"""What rounding of exp and log may cost: bounds on the log scale are moved inwards by it."""


class LogBaseline(SortedWindow):
    """Rolling median and spread of log x: gradient norms, KL, standard deviations, entropies.

    Works on the log scale because these signals are heavy-tailed, with a median and an interquartile range because
    single spikes of 10-100x are normal in healthy runs. `sigma_floor` keeps a signal with almost no spread from
    turning every wiggle into many sigma. While the window is young the spread is widened by 1 + 4/n.

    Attributes:
        middle: the median of log x; 0 while empty.
        sigma: the spread on the log scale (0.2 is about +-20 %); 1 while empty.
    """

    __slots__ = ("middle", "sigma", "sigma_floor")

    def __init__(self, size: int = 100, sigma_floor: float = 0.2) -> None:
        super().__init__(size)
        self.sigma_floor = sigma_floor
        self.middle = 0.0
        self.sigma = 1.0

    @property
    def center(self) -> float:
        """The median level, in the signal's own unit."""
        return exp(self.middle)

    def push(self, value: float) -> None:
        """Take in a log x, winsorised at 3 sigma once there are enough values to know sigma.

        The window's `push` stands here in one piece, since this is called often.
        """
        ordered, arrived = self._sorted, self._arrived
        n = len(ordered)
        if n >= TRUSTED:
            reach = WINSOR * self.sigma
            if value > self.middle + reach:
                value = self.middle + reach
            elif value < self.middle - reach:
                value = self.middle - reach
        if n >= self.size:
            del ordered[bisect_left(ordered, arrived.popleft())]
        arrived.append(value)
        insort(ordered, value)
        self._measure()

    def push_ordinary(self, values: Sequence[float]) -> None:
        """Take in values that were within the `bounds`, as `push` would one by one."""
        ordered, oldest = self._sorted, self._arrived.popleft
        for value in values:
            del ordered[bisect_left(ordered, oldest())]
            insort(ordered, value)
            self._arrived.append(value)
        self._measure()

    def bounds(self) -> Bounds:
        """Bounds for the values to come: each that enters a full window moves any rank by one place at most."""
        ordered, n = self._sorted, self.size
        if len(ordered) < n or n < 4 * HELD:
            return UNKNOWN
        least, most = ordered[n // 2 - HELD], ordered[n // 2 + HELD]
        spread = (ordered[(3 * n) // 4 - HELD] - ordered[n // 4 + HELD]) / 1.349
        sigma = (spread if spread > self.sigma_floor else self.sigma_floor) * (1.0 + 4.0 / n)
        return Bounds(most - WINSOR * sigma, least + NOTABLE * sigma, least, most)

    def _measure(self) -> None:
        ordered = self._sorted
        n = len(ordered)
        self.middle = ordered[n // 2]
        sigma = (ordered[(3 * n) // 4] - ordered[n // 4]) / 1.349 if n > 3 else 0.0
        self.sigma = (sigma if sigma > self.sigma_floor else self.sigma_floor) * (1.0 + 4.0 / n)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        super().load_state_dict(state)
        if len(self):
            self.middle, sigma, n = self.middle_and_sigma()
            self.sigma = max(sigma, self.sigma_floor) * (1.0 + 4.0 / n)
