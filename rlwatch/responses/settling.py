"""Rows after a rollback that are recorded and not judged."""

from __future__ import annotations

from rlwatch.observation import Observation
from rlwatch.responses.reward_scale import Bound, RewardScale

SETTLE = 2
"""Rows after a rollback that are not judged: they may hold what was measured before it."""

FLUSH = 20
"""Rows, at most, that are not judged either where the rewards were far from their scale: a mean over the last 50 or
100 episodes, as classical trainers log it, holds those of before the rollback until new ones have taken their place."""


class Settling:
    """Counts them down.

    Attributes:
        on: whether the next row is one of them, as far as is known before it comes.
    """

    def __init__(self, rewards: RewardScale) -> None:
        self.on = False
        self._rewards = rewards
        self._rows = self._flushing = 0
        self._left: Bound | None = None

    def begin(self) -> None:
        """The run has gone back."""
        self._rows, self.on = SETTLE, True

    def flush(self, bound: Bound | None) -> None:
        """It went back from rewards beyond this bound; None: they were not."""
        self._left, self._flushing = bound, FLUSH if bound is not None else 0
        self.on = bool(self._rows or self._flushing)

    def pass_over(self, observation: Observation) -> None:
        """A row that is not judged has come."""
        if self._rows:
            self._rows -= 1
        elif self._left is None or not self._rewards.beyond(observation, self._left):
            self._flushing = 0
        self._flushing = max(0, self._flushing - 1)
        self.on = bool(self._rows or self._flushing)
