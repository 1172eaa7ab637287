"""The two scores of each row, and what they are judged with."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rlwatch.observation import FloatArray
from rlwatch.offline.reward_drift.limits import DriftLimits
from rlwatch.offline.reward_health.rollouts import IntArray
from rlwatch.offline.reward_health.statistics import FEWEST

SliceIds = dict[str, "list[str]"]


@dataclass(frozen=True)
class Scores:
    """Scores of rows that have both.

    Attributes:
        a, b: shape (n,), finite.
        prompt: ids of equal prompts.
        label: 1 for chosen, 0 for rejected, NaN where that is not known.
        pair: what was chosen was preferred to the rejected answer of the same pair.
        slices: name of a slicing -> each row's slice.
    """

    a: FloatArray
    b: FloatArray
    prompt: IntArray
    label: FloatArray
    pair: IntArray
    limits: DriftLimits
    slices: SliceIds = field(default_factory=dict)

    def cluster(self) -> IntArray:
        """What is resampled as one: prompts, or rows where prompts are few."""
        return self.prompt if len(np.unique(self.prompt)) >= FEWEST else np.arange(self.a.size)

    def part(self, inside: IntArray) -> Scores:
        """Some of the rows."""
        a, b = self.a[inside], self.b[inside]
        return Scores(a, b, self.prompt[inside], self.label[inside], self.pair[inside], self.limits)
