"""The scale of a run's rewards while it was healthy, and how far they have left it since."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from rlwatch.observation import FloatArray, Observation

ROWS = 256
"""Rows kept; a way back is shorter."""

VALUES = 256
"""Rewards kept of a row, evenly chosen."""

FEWEST = 32
"""Rewards of rows without trouble that it takes to tell a scale."""

WITHIN = 0.99
"""Share of the healthy rewards that a bound leaves as they are."""

BEYOND = 1.2
"""Times the bound that a row's 95th percentile must have passed in the trouble: else a bound would change nothing."""


Well = Callable[[int], bool]
"""Whether no trouble is known of a row."""


class Bound(NamedTuple):
    """`limit` of the absolute reward; `reached` is what the wildest row since had at its 95th percentile.

    `upward`: rewards above zero went there. A policy that fails is punished more; it is not paid more.
    """

    limit: float
    reached: float
    upward: bool = False


class RewardScale:
    """The rewards of the last rows.

    Where a loop logs no rewards but their mean and standard deviation, mean +- 2 of these stand for them.

    Attributes:
        of_functions: take the rewards of single functions, if they are known, instead of their sum.
    """

    def __init__(self) -> None:
        self.of_functions = False
        self._rows: deque[tuple[int, FloatArray]] = deque(maxlen=ROWS)

    def push(self, obs: Observation) -> None:
        """Take in one row."""
        values = self._values(obs)
        if values.size:
            self._rows.append((obs.row, values[:: -(-values.size // VALUES)]))

    def _values(self, obs: Observation) -> FloatArray:
        parts = obs.samples.get("reward_components") if self.of_functions else None
        if parts:
            return np.concatenate([np.asarray(part, dtype=np.float64).ravel() for part in parts.values()])
        if (rewards := obs.samples.get("rewards")) is not None:
            return np.asarray(rewards, dtype=np.float64).ravel()
        mean, std = obs.signals.get("reward_mean"), obs.signals.get("reward_std")
        if mean is None or std is None:
            return np.empty(0)
        return np.array([mean - 2.0 * std, mean, mean + 2.0 * std])

    def forget(self, well: Well) -> None:
        """The run went back from its trouble: what was seen in it says nothing of what comes."""
        rows = [kept for kept in self._rows if well(kept[0])]
        self._rows.clear()
        self._rows.extend(rows)

    def bound(self, well: Well) -> Bound | None:
        """What nearly all rewards of the rows without trouble were within, if those with it are not; else None."""
        before = np.abs(_finite(values for row, values in self._rows if well(row)))
        rows = [_finite([values]) for row, values in self._rows if not well(row)]
        since = [float(np.quantile(np.abs(values), 0.95)) for values in rows if values.size]
        if before.size < FEWEST or not since:
            return None
        limit, reached = float(np.quantile(before, WITHIN)), max(since)
        if not 0.0 < BEYOND * limit < reached or not math.isfinite(reached):
            return None
        upward = any(float(np.quantile(values, 0.95)) > BEYOND * limit for values in rows if values.size)
        return Bound(limit, reached, upward)

    def beyond(self, obs: Observation, bound: Bound) -> bool:
        """Whether a row's rewards are beyond a bound: a mean over the last episodes has those of before in it."""
        values = _finite([self._values(obs)])
        return bool(values.size) and float(np.quantile(np.abs(values), 0.95)) > BEYOND * bound.limit


def _finite(parts: Iterable[FloatArray]) -> FloatArray:
    together = np.concatenate([np.empty(0), *parts])
    finite: FloatArray = together[np.isfinite(together)]
    return finite
