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
    """Counts them down."""

    def __init__(self, rewards: RewardScale) -> None:
        self._rewards = rewards
        self._rows = self._flushing = 0
        self._left: Bound | None = None

    @property
    def on(self) -> bool:
        """Whether the next row is one of them."""
        return self._rows > 0 or self._flushing > 0

    def begin(self) -> None:
        """The run has gone back."""
        self._rows = SETTLE

    def flush(self, bound: Bound | None) -> None:
        """It went back from rewards beyond this bound; None: they were not."""
        self._left, self._flushing = bound, FLUSH if bound is not None else 0

    def pass_over(self, observation: Observation) -> None:
        """A row that is not judged has come."""
        if self._rows:
            self._rows -= 1
        elif self._left is None or not self._rewards.beyond(observation, self._left):
            self._flushing = 0
        self._flushing = max(0, self._flushing - 1)
