"""Groups of samples whose rewards are all equal: a group-relative advantage has nothing to say about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlwatch.observation import FloatArray

TIED = 0.999
"""Share of groups without spread from which all of them count as tied."""

_EVERY = 4
"""Rows from one look at the sample arrays to the next, where the loop logs no share itself."""


class Ties:
    """Whether all groups of a row are tied, and for how many rows they have been.

    Attributes:
        rows: rows in a row in which every group was tied.
        right: share of the groups that are tied at the best reward of the batch or run, as last seen in the samples.
        wrong: share of the groups that are tied below it.
    """

    __slots__ = ("_best", "_last", "_turn", "right", "rows", "wrong")

    def __init__(self) -> None:
        self.rows = 0
        self.right = self.wrong = 0.0
        self._best: float | None = None
        self._last: bool | None = None
        self._turn = 0

    def push(self, signals: Mapping[str, float], samples: Mapping[str, Any]) -> bool | None:
        """Whether no group of the row differs within itself; None where nothing tells."""
        share, spread = signals.get("frac_reward_zero_std"), signals.get("group_reward_std")
        tied: bool | None = None
        if share is not None:
            tied = share >= TIED
        elif spread is not None:
            tied = spread == 0.0
        if samples and "group_ids" in samples and "rewards" in samples:
            if self._turn % _EVERY == 0:
                self._last = self._look(samples["rewards"], samples["group_ids"])
            self._turn += 1
            tied = self._last if tied is None else tied
        self.rows = self.rows + 1 if tied else 0
        return tied

    def _look(self, rewards: FloatArray, groups: FloatArray) -> bool | None:
        if rewards.size != groups.size or rewards.size < 2:
            return None
        order = np.argsort(groups, kind="stable")
        rewards, groups = rewards[order], groups[order]
        starts = np.concatenate(([0], np.flatnonzero(np.diff(groups)) + 1))
        if starts.size == rewards.size:
            return None  # one sample a prompt: there are no groups
        high, low = np.maximum.reduceat(rewards, starts), np.minimum.reduceat(rewards, starts)
        known = np.isfinite(high) & np.isfinite(low)
        if not known.any():
            return None
        high, low = high[known], low[known]
        top = float(high.max())
        self._best = top if self._best is None or top > self._best else self._best
        tied = high == low
        self.right = float((tied & (high >= self._best)).mean())
        self.wrong = float((tied & (high < self._best)).mean())
        return bool(tied.all())

    def state_dict(self) -> dict[str, Any]:
        """The count and the last look."""
        return {
            "rows": self.rows,
            "shares": [self.right, self.wrong],
            "best": self._best,
            "last": self._last,
            "turn": self._turn,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.rows, self._turn = int(state["rows"]), int(state["turn"])
        self.right, self.wrong = (float(x) for x in state["shares"])
        self._best, self._last = state["best"], state["last"]
