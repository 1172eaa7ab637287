"""A rise of a positive, heavy-tailed signal above its own baseline, persistent or extreme."""

from __future__ import annotations

from typing import Any, NamedTuple

from rlwatch.streaming.baseline import LogBaseline
from rlwatch.streaming.recent import Recent

_NEW = 1.2
"""How far above the baseline's upper tenth a level must be to be new."""


class Reading(NamedTuple):
    """Where the signal stands against its baseline.

    `level` is the median of the last few rows, `lasting` of a few more; `center` the baseline's median;
    `sigmas` and `lasting_sigmas` how far they lie above it on the log scale; `new` whether the level is above nine
    tenths of the baseline's values, too: a signal that keeps jumping between two levels is not at a new one.
    """

    value: float
    level: float
    lasting: float
    center: float
    sigmas: float
    lasting_sigmas: float
    new: bool

    @property
    def times(self) -> float:
        """How many times the baseline the level is."""
        return self.level / self.center

    @property
    def lasting_times(self) -> float:
        """How many times the baseline the lasting level is."""
        return self.lasting / self.center


class Surge:
    """Compares the level of the last rows with a robust log baseline of the rows before.

    Levels are medians of `short` and `long` rows, so single spikes that recover, which healthy runs have at 10-1000x,
    do not show. Values at or below zero (exact zeros are normal under GRPO when all groups tie) enter the level and
    not the baseline. The reading is None until `min_rows` positive values have made a baseline.
    """

    __slots__ = ("_long", "_short", "baseline", "min_rows")

    def __init__(self, window: int = 100, short: int = 3, long: int = 5, min_rows: int = 8, sigma: float = 0.2) -> None:
        self.baseline = LogBaseline(window, sigma)
        self.min_rows = min_rows
        self._short = Recent(short)
        self._long = Recent(long)

    def push(self, x: float) -> Reading | None:
        """Take in a finite value and compare the level, this value included, with the baseline before it."""
        level = self._short.push(x)
        lasting = self._long.push(x)
        baseline = self.baseline
        reading = None
        if level is not None and len(baseline) >= self.min_rows:
            center = baseline.center
            sigmas = baseline.score(level) if level > 0.0 else 0.0
            if lasting is None:
                lasting = 0.0
            lasting_sigmas = baseline.score(lasting) if lasting > 0.0 else 0.0
            new = level > _NEW * baseline.quantile(0.9)
            reading = Reading(x, level, lasting, center, sigmas, lasting_sigmas, new)
        if x > 0.0:
            baseline.push(x)
        return reading

    def state_dict(self) -> dict[str, Any]:
        """The state of the baseline and the levels."""
        return {
            "baseline": self.baseline.state_dict(),
            "short": self._short.state_dict(),
            "long": self._long.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.baseline.load_state_dict(state["baseline"])
        self._short.load_state_dict(state["short"])
        self._long.load_state_dict(state["long"])
