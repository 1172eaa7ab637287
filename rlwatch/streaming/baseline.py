"""The level and spread that a positive, heavy-tailed signal has when nothing is wrong."""

from __future__ import annotations

from math import exp, log
from typing import Any

from rlwatch.streaming.window import SortedWindow

WINSOR = 3.0
"""Values are clipped to this many sigma before they enter: an anomaly hardly teaches the baseline, yet a new level
that lasts becomes the baseline after about half a window."""


class LogBaseline:
    """Rolling median and spread of log(x), for x > 0: gradient norms, KL, standard deviations.

    Works on the log scale because these signals are heavy-tailed, with a median and an interquartile range because
    single spikes of 10-100x are normal in healthy runs. `sigma_floor` keeps a signal with almost no spread from
    turning every wiggle into many sigma. While the window is young the spread is widened by 1 + 4/n.
    """

    __slots__ = ("_window", "sigma_floor")

    def __init__(self, size: int = 100, sigma_floor: float = 0.2) -> None:
        self.sigma_floor = sigma_floor
        self._window = SortedWindow(size)

    def __len__(self) -> int:
        return len(self._window)

    @property
    def center(self) -> float:
        """The median level, in the signal's own unit; there must be a value."""
        return exp(self._window.median)

    def quantile(self, q: float) -> float:
        """The level below which a share `q` of the baseline's values lie, in the signal's own unit."""
        return exp(self._window.quantile(q))

    @property
    def sigma(self) -> float:
        """The spread on the log scale (0.2 is about +-20 %)."""
        return max(self._window.sigma, self.sigma_floor) * (1.0 + 4.0 / len(self._window))

    def score(self, x: float) -> float:
        """How many sigma x > 0 lies above (below: negative) the baseline."""
        return (log(x) - self._window.median) / self.sigma

    def push(self, x: float) -> None:
        """Take in x > 0, winsorised at 3 sigma once there are enough values to know sigma."""
        value = log(x)
        window = self._window
        if len(window) >= 8:
            reach = WINSOR * self.sigma
            middle = window.median
            value = min(max(value, middle - reach), middle + reach)
        window.push(value)

    def state_dict(self) -> dict[str, Any]:
        """The window's logs, oldest first."""
        return self._window.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._window.load_state_dict(state)
