"""A reward that almost never comes."""

from __future__ import annotations

import numpy as np

from rlwatch.offline.reward_health.case import Case
from rlwatch.offline.reward_health.check import Check, few

NAME = "sparsity"
NEEDS = ("reward",)


def check(case: Case) -> Check:
    """The share of samples paid more than the least, and of prompts with any that is; needs 1 / limit samples."""
    reward = case.column("reward")
    held = np.isfinite(reward)
    limits = case.limits
    need = max(limits.samples, int(np.ceil(1 / limits.paid_warn)) if limits.paid_warn else 0)
    if held.sum() < need:
        return few(NAME, "samples with a reward", int(held.sum()), need)
    paid = held & (reward > reward[held].min())
    share = paid.sum() / held.sum()
    figures = {"samples": int(held.sum()), "lowest": reward[held].min(), "share_paid": share}
    says = f"{share:.1%} of the samples get more than the lowest reward, {reward[held].min():.4g}"
    if case.run.prompt is not None:
        prompts = len(np.unique(case.run.prompt[held]))
        never = prompts - len(np.unique(case.run.prompt[paid]))
        figures |= {"prompts": prompts, "prompts_never_paid": never}
        says += f"; {never:,} of {prompts:,} prompts never do"
    if share < limits.paid:
        return Check(NAME, "fail", says, figures)
    return Check(NAME, "warn" if share < limits.paid_warn else "pass", says, figures)
