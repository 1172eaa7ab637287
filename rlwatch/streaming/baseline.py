"""The level and spread that a positive, heavy-tailed signal has when nothing is wrong."""

from __future__ import annotations

from math import exp
from typing import Any

from rlwatch.streaming.window import SortedWindow

WINSOR = 3.0
"""Values are clipped to this many sigma before they enter: an anomaly hardly teaches the baseline, yet a new level
that lasts becomes the baseline after about half a window."""

TRUSTED = 8
"""Values that it takes to know a sigma."""


class LogBaseline:
    """Rolling median and spread of log x: gradient norms, KL, standard deviations, entropies.

    Works on the log scale because these signals are heavy-tailed, with a median and an interquartile range because
    single spikes of 10-100x are normal in healthy runs. `sigma_floor` keeps a signal with almost no spread from
    turning every wiggle into many sigma. While the window is young the spread is widened by 1 + 4/n.

    Attributes:
        middle: the median of log x; 0 while empty.
        sigma: the spread on the log scale (0.2 is about +-20 %); 1 while empty.
    """

    __slots__ = ("_window", "middle", "sigma", "sigma_floor")

    def __init__(self, size: int = 100, sigma_floor: float = 0.2) -> None:
        self.sigma_floor = sigma_floor
        self._window = SortedWindow(size)
        self.middle = 0.0
        self.sigma = 1.0

    def __len__(self) -> int:
        return len(self._window)

    @property
    def center(self) -> float:
        """The median level, in the signal's own unit."""
        return exp(self.middle)

    def quantile(self, q: float) -> float:
        """The log level below which a share `q` of the baseline's values lie; there must be one."""
        return self._window.quantile(q)

    def push(self, value: float) -> None:
        """Take in a log x, winsorised at 3 sigma once there are enough values to know sigma."""
        window = self._window
        if len(window) >= TRUSTED:
            reach = WINSOR * self.sigma
            if value > self.middle + reach:
                value = self.middle + reach
            elif value < self.middle - reach:
                value = self.middle - reach
        window.push(value)
        self._settle()

    def _settle(self) -> None:
        self.middle, sigma, count = self._window.middle_and_sigma()
        self.sigma = (sigma if sigma > self.sigma_floor else self.sigma_floor) * (1.0 + 4.0 / count)

    def state_dict(self) -> dict[str, Any]:
        """The window's logs, oldest first."""
        return self._window.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._window.load_state_dict(state)
        if len(self._window):
            self._settle()
