"""What a check is given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlwatch.observation import FloatArray
from rlwatch.offline.reward_health.limits import Limits
from rlwatch.offline.reward_health.rollouts import IntArray, Rollouts
from rlwatch.offline.reward_health.statistics import FEWEST


@dataclass(frozen=True)
class Case:
    """A run's rollouts, those it is held against, and the limits."""

    run: Rollouts
    limits: Limits
    reference: Rollouts | None = None

    def column(self, role: str) -> FloatArray:
        """The numbers of a role that the check needs."""
        found = self.run.get(role)
        return np.full(self.run.size, np.nan) if found is None else found

    def late(self) -> IntArray:
        """The samples of the last third of the steps; all, in their order, where there is no step."""
        step = self.run.get("step")
        if step is None:
            return np.arange(self.run.size)
        known = np.unique(step[np.isfinite(step)])
        return np.flatnonzero(step >= known[min(len(known) - 1, 2 * len(known) // 3)])

    def cluster(self) -> IntArray:
        """What varies together: the samples of a prompt; of a group where prompts are few, else each sample."""
        for ids in (self.run.prompt, self.run.group):
            if ids is not None and len(np.unique(ids)) >= 2 * FEWEST:
                return ids
        return np.arange(self.run.size)


def spread(values: FloatArray) -> float:
    """The standard deviation of the finite ones; 0 for fewer than two."""
    held = values[np.isfinite(values)]
    return float(held.std()) if held.size > 1 else 0.0
