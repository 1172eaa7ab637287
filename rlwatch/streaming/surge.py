"""A rise of a positive, heavy-tailed signal above its own baseline, persistent or extreme."""

from __future__ import annotations

from collections import deque
from math import exp, log
from typing import Any, NamedTuple

from rlwatch.streaming.baseline import TRUSTED, LogBaseline

_NEW = 0.18
"""How far above the baseline's upper tenth a level must be to be new, on the log scale (1.2x)."""

_UNSEEN = 0.69
"""How far above the highest earlier level a level must be to be unseen, on the log scale (2x)."""

_BLOCK = 20
"""Rows after which levels count as earlier: an explosion must not be its own precedent."""

_NOTABLE = 2.0
"""Sigmas below which a row is ordinary: no detector speaks below 3, so that most rows cost one comparison."""

_ZERO = -500.0
"""The log that stands for a value of zero or less: such a value is low, and no baseline."""


_YOUNG = 40
"""Rows in which the first three are a second reference: an explosion in row 5 makes up most of its own baseline."""

_YOUNG_JUMP = 2.3
"""How far above those a row must be, on the log scale (10x), and how near each other they must be (within e)."""

_KNOWN = 20
"""Values above zero that it takes to say that a signal had a level."""


class Reading(NamedTuple):
    """Where the signal stands against its baseline.

    `level` is the median of the last rows, `lasting` of a few more; `center` the baseline's median; `sigmas` and
    `lasting_sigmas` how far they lie above it on the log scale; `new` whether the level is above nine tenths of the
    baseline's values, too: a signal that keeps jumping between two levels is not at a new one; `unseen` whether it is
    twice the highest level that the run had until some 20 rows ago.
    """

    value: float
    level: float
    lasting: float
    center: float
    sigmas: float
    lasting_sigmas: float
    new: bool
    unseen: bool

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

    Levels are medians of `short` and of `lasting` rows, so single spikes that recover, which healthy runs have at
    10-1000x, do not show. Zeros (normal under GRPO when all groups tie) enter the levels and not the baseline.
    """

    __slots__ = ("_ceiling", "_logs", "_ordinary", "_peaks", "_rows", "_start", "baseline", "lasting", "short")

    def __init__(self, window: int = 100, short: int = 5, lasting: int = 7, sigma: float = 0.2) -> None:
        self.baseline = LogBaseline(window, sigma)
        self.short = short
        self.lasting = lasting
        self._logs: deque[float] = deque(maxlen=lasting)
        self._ordinary = 0
        self._rows = 0
        self._start: list[float] = []
        self._ceiling = _ZERO
        self._peaks = [_ZERO, _ZERO]

    @property
    def known_level(self) -> float | None:
        """The baseline's median once 20 values made it."""
        return self.baseline.center if len(self.baseline) >= _KNOWN else None

    def push(self, x: float) -> Reading | None:
        """Take in a value (0, or within TINY and HUGE) and compare the levels with the baseline before it.

        None while there is no baseline, and when the last rows are ordinary: then no level is notable.
        """
        baseline = self.baseline
        value = log(x) if x > 0.0 else _ZERO
        logs = self._logs
        logs.append(value)
        if len(logs) > 2:
            self._remember(logs[-3], logs[-2], value)
        if value > baseline.middle + _NOTABLE * baseline.sigma or (self._rows < _YOUNG and self._jumped(value)):
            self._ordinary = 0
        else:
            self._ordinary += 1
        reading = None
        if self._ordinary <= self.short // 2 and len(baseline) >= TRUSTED:
            reading = self._read(x)
        if x > 0.0:
            baseline.push(value)
            if len(self._start) < 3:
                self._start.append(value)
        return reading

    def _jumped(self, value: float) -> bool:
        """Whether a row of a young run is far above its first three."""
        start = self._start
        return len(start) == 3 and max(start) - min(start) < 1.0 and value > max(start) + _YOUNG_JUMP

    def _remember(self, a: float, b: float, c: float) -> None:
        """Keep the highest level of this block of rows, of the one before, and of all that are older."""
        level = b if a <= b <= c or c <= b <= a else (a if b <= a <= c or c <= a <= b else c)
        if level > self._peaks[1]:
            self._peaks[1] = level
        self._rows += 1
        if self._rows % _BLOCK == 0:
            if self._peaks[0] > self._ceiling:
                self._ceiling = self._peaks[0]
            self._peaks = [self._peaks[1], _ZERO]

    def _read(self, x: float) -> Reading:
        logs, baseline = list(self._logs), self.baseline
        level = _median(logs[-self.short :]) if len(logs) >= self.short else _ZERO
        lasting = _median(logs) if len(logs) == self.lasting else _ZERO
        middle, sigma = baseline.middle, baseline.sigma
        new, unseen = level > baseline.quantile(0.9) + _NEW, level > self._ceiling + _UNSEEN
        if self._rows < _YOUNG and not new and self._jumped(level):
            middle, sigma = max(self._start), baseline.sigma_floor * (1.0 + 4.0 / 3.0)
            new, unseen = True, False  # three rows are enough to warn, not to halt
        return Reading(
            x, exp(level), exp(lasting), exp(middle), (level - middle) / sigma, (lasting - middle) / sigma, new, unseen
        )

    def state_dict(self) -> dict[str, Any]:
        """The state of the baseline and the last rows."""
        return {
            "baseline": self.baseline.state_dict(),
            "logs": list(self._logs),
            "ordinary": self._ordinary,
            "rows": self._rows,
            "start": list(self._start),
            "ceiling": self._ceiling,
            "peaks": list(self._peaks),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.baseline.load_state_dict(state["baseline"])
        self._logs = deque((float(x) for x in state["logs"]), maxlen=self.lasting)
        self._ordinary = int(state["ordinary"])
        self._rows = int(state["rows"])
        self._start = [float(x) for x in state["start"]]
        self._ceiling = float(state["ceiling"])
        self._peaks = [float(x) for x in state["peaks"]]


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
