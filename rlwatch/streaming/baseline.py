"""The level and spread that a positive, heavy-tailed signal has when nothing is wrong."""

from __future__ import annotations

from bisect import bisect_left, insort
from math import exp
from typing import Any

from rlwatch.streaming.window import SortedWindow

WINSOR = 3.0
"""Values are clipped to this many sigma before they enter: an anomaly hardly teaches the baseline, yet a new level
that lasts becomes the baseline after about half a window."""

TRUSTED = 8
"""Values that it takes to know a sigma."""


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

        This is the hottest line of the step: the window's `push` and `middle_and_sigma` stand here in one piece.
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
        else:
            n += 1
        arrived.append(value)
        insort(ordered, value)
        self.middle = ordered[n // 2]
        sigma = (ordered[(3 * n) // 4] - ordered[n // 4]) / 1.349 if n > 3 else 0.0
        self.sigma = (sigma if sigma > self.sigma_floor else self.sigma_floor) * (1.0 + 4.0 / n)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        super().load_state_dict(state)
        if len(self):
            self.middle, sigma, n = self.middle_and_sigma()
            self.sigma = max(sigma, self.sigma_floor) * (1.0 + 4.0 / n)
