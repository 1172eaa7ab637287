"""Rewards that are NaN or infinite."""

from __future__ import annotations

import numpy as np

from rlwatch.offline.reward_health.case import Case
from rlwatch.offline.reward_health.check import Check, Verdict

NAME = "values"
NEEDS = ("reward",)


def check(case: Case) -> Check:
    """Whether every sample has a reward that is a number."""
    reward = case.column("reward")
    none = int((~np.isfinite(reward)).sum())
    share = none / reward.size
    figures = {"samples": reward.size, "without": none}
    if not none:
        return Check(NAME, "pass", f"all {reward.size:,} samples have a finite reward", figures)
    verdict: Verdict = "fail" if share > case.limits.not_finite else "warn"
    return Check(NAME, verdict, f"{none:,} of {reward.size:,} samples have no finite reward", figures)
