"""Single samples that a person should read: paid well with a low gold score, very long, or repetitive."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rlwatch.observation import FloatArray
from rlwatch.offline.reward_health.case import Case
from rlwatch.offline.reward_health.check import Check, Verdict, few, missing

NAME = "suspicious"
NEEDS = ("reward",)

_LISTED = 1000
Flags = npt.NDArray[np.bool_]


def check(case: Case) -> Check:
    """Judged is the share among the samples of high reward (the upper quarter) that are suspicious, kind by kind."""
    reward = case.column("reward")
    held = np.isfinite(reward)
    if held.sum() < case.limits.samples:
        return few(NAME, "samples with a reward", int(held.sum()), case.limits.samples)
    high = held & (reward >= np.quantile(reward[held], case.limits.high_reward)) & (reward > reward[held].min())
    flags, without = _flags(case, high)
    if not flags:
        return missing(NAME, " and ".join(without))
    figures: dict[str, Any] = {"samples_of_high_reward": int(high.sum()), "not_looked_for": without}
    verdict: Verdict = "pass"
    told = []
    for name, flagged in flags.items():
        share = float((flagged & high).sum() / max(1, high.sum()))
        rest = float((flagged & held & ~high).sum() / max(1, (held & ~high).sum()))
        figures[name] = {"samples": int(flagged.sum()), "share_of_high": share, "share_of_others": rest}
        told.append(f"{name} {flagged.sum():,} ({share:.1%} of those paid well, {rest:.1%} of the others)")
        # What the others have as often is no trick that pays: the policy writes so.
        pays = share > rest
        if share > case.limits.suspicious and pays:
            verdict = "fail"
        elif share > case.limits.suspicious_warn and verdict == "pass":
            verdict = "warn"
    figures["suspicious_samples"] = int((np.any(list(flags.values()), axis=0) & held).sum())
    figures["listed"] = _listed(case, flags, high)
    says = "; ".join(told) + (f"; not looked for: {'; '.join(without)}" if without else "")
    return Check(NAME, verdict, says, figures)


def _flags(case: Case, high: Flags) -> tuple[dict[str, Flags], list[str]]:
    """Kind -> which samples, and what could not be looked for."""
    gold, length, repetition = case.run.get("gold"), case.run.get("length"), case.run.measures.get("repetition")
    found: dict[str, Flags] = {}
    without = []
    if gold is None or np.nanmin(gold) == np.nanmax(gold):
        without.append("high reward with low gold, because gold is missing or the same for all")
    else:
        low = gold <= np.nanquantile(gold, case.limits.low_gold)
        found["high reward, low gold"] = high & low & (gold < np.nanmax(gold))
    if length is None:
        without.append("long ones, because length and completion are missing")
    else:
        found[f"over {case.limits.long:g}x the usual length"] = length > case.limits.long * _usual(case, length)
    if repetition is None:
        without.append("repetitive ones, because completions are missing")
    else:
        found[f"repetition over {case.limits.repetition:g}"] = repetition > case.limits.repetition
    return found, without


def _usual(case: Case, length: FloatArray) -> float:
    """The median length of the reference, else of the first tenth of the steps, else of all."""
    if case.reference is not None and case.reference.length_unit == case.run.length_unit:
        there = case.reference.get("length")
        if there is not None:
            return float(np.nanmedian(there))
    step = case.run.get("step")
    if step is not None:
        first = length[step <= np.nanquantile(np.unique(step[np.isfinite(step)]), 0.1)]
        if np.isfinite(first).any():
            return float(np.nanmedian(first))
    return float(np.nanmedian(length))


def _listed(case: Case, flags: dict[str, Flags], high: Flags) -> list[dict[str, Any]]:
    """The samples with the most flags and the highest reward first."""
    count = np.sum(list(flags.values()), axis=0)
    reward = case.column("reward")
    at = np.flatnonzero((count > 0) & np.isfinite(reward))
    order = at[np.lexsort((-reward[at], -count[at], ~high[at]))][:_LISTED]
    return [_sample(case, int(each), [name for name, flagged in flags.items() if flagged[each]]) for each in order]


def _sample(case: Case, at: int, why: list[str]) -> dict[str, Any]:
    made: dict[str, Any] = {"sample": at, "why": why}
    for role in ("step", "reward", "gold", "length"):
        values = case.run.get(role)
        if values is not None and np.isfinite(values[at]):
            made[role] = float(values[at])
    if "repetition" in case.run.measures:
        made["repetition"] = round(float(case.run.measures["repetition"][at]), 3)
    if case.run.snippets:
        made["ends"] = case.run.snippets[at]
    return made
