"""A reward that no longer tells samples apart: all equal, at its ceiling, cut off, or tied within every group."""

from __future__ import annotations

import numpy as np

from rlwatch.observation import FloatArray
from rlwatch.offline.reward_health.case import Case
from rlwatch.offline.reward_health.check import Check, few
from rlwatch.offline.reward_health.rollouts import IntArray

NAME = "saturation"
NEEDS = ("reward",)

_MANY = 20
"""Different rewards from which a reward counts as continuous."""


def check(case: Case) -> Check:
    """Looks at the last third of training, where there are steps."""
    late = case.late()
    reward = case.column("reward")[late]
    held = reward[np.isfinite(reward)]
    if held.size < case.limits.samples:
        return few(NAME, "samples with a reward in the last third", held.size, case.limits.samples)
    values, counts = np.unique(held, return_counts=True)
    common, at_most = counts.max() / held.size, counts[-1] / held.size
    figures = {
        "samples": int(held.size), "different": len(values), "mean": held.mean(), "sd": held.std(),
        "most_common": values[counts.argmax()], "share_of_most_common": common,
        "highest": values[-1], "share_at_highest": at_most,
    }  # fmt: skip
    tied = _tied(reward, case.run.group[late]) if case.run.group is not None else None
    if tied is not None:
        figures["share_of_tied_groups"] = tied
    limits = case.limits
    if common >= limits.same:
        says = f"{common:.1%} of the samples have the reward {values[counts.argmax()]:.4g}: nothing to learn from"
        return Check(NAME, "fail", says, figures)
    if at_most >= limits.ceiling:
        return Check(NAME, "warn", f"{at_most:.1%} of the samples have the highest reward, {values[-1]:.4g}", figures)
    if tied is not None and tied >= limits.tied:
        return Check(NAME, "warn", f"in {tied:.1%} of the groups all rewards tie, so that they teach nothing", figures)
    if len(values) > _MANY and at_most >= limits.clipped:
        says = f"{at_most:.1%} of the samples lie at {values[-1]:.4g}, the others spread: the reward is cut off there"
        return Check(NAME, "warn", says, figures)
    says = f"{len(values):,} different rewards, mean {held.mean():.3g}, sd {held.std():.3g}"
    says += f"; {at_most:.1%} at the highest"
    return Check(NAME, "pass", says + (f"; {tied:.1%} of the groups tie" if tied is not None else ""), figures)


def _tied(reward: FloatArray, group: IntArray) -> float | None:
    """Share of the groups of two or more in which all rewards are equal; None where there is no such group."""
    held = np.isfinite(reward)
    _, ids, counts = np.unique(group[held], return_inverse=True, return_counts=True)
    if not (counts > 1).any():
        return None
    low, high = np.full(counts.size, np.inf), np.full(counts.size, -np.inf)
    np.minimum.at(low, ids, reward[held])
    np.maximum.at(high, ids, reward[held])
    return float((low == high)[counts > 1].mean())
