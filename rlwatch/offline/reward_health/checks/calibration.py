"""Whether the reward orders answers as gold scores do."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlwatch.observation import FloatArray
from rlwatch.offline.reward_health.case import Case, spread
from rlwatch.offline.reward_health.check import Check, few, missing
from rlwatch.offline.reward_health.statistics import FEWEST, Interval, correlation, overall, scipy_stats, within

NAME = "calibration"
NEEDS = ("reward", "gold")

_BINS = 10
_TOP_FALLS = 0.25  # sd of gold
_ERRORS = 3.0


def check(case: Case) -> Check:
    """Judged is the rank correlation within prompts, where prompts have several answers, else over all samples."""
    columns = {"reward": case.column("reward"), "gold": case.column("gold")}
    held = np.isfinite(columns["reward"]) & np.isfinite(columns["gold"])
    reward, gold = columns["reward"][held], columns["gold"][held]
    if held.sum() < case.limits.samples:
        return few(NAME, "samples with reward and gold", int(held.sum()), case.limits.samples)
    if reward.min() == reward.max() or gold.min() == gold.max():
        which = "reward" if reward.min() == reward.max() else "gold score"
        return missing(NAME, f"every sample has the same {which}")
    figures: dict[str, Any] = {"samples": int(held.sum())}
    over = {name: correlation(overall(columns, case.cluster(), ranked=name == "spearman"), "reward", "gold")
            for name in ("pearson", "spearman")}  # fmt: skip
    figures["overall"] = over
    judged, where = over["spearman"], "over all samples"
    if case.run.group is not None:
        data = within(columns, case.run.group, case.cluster(), ranked=True)
        if data.groups >= FEWEST and (inner := correlation(data, "reward", "gold")) is not None:
            figures["within_prompt_spearman"] = judged = inner
            where = "within prompts"
    figures["bins"] = bins(reward, gold)
    figures |= _of_labels(reward, gold)
    return _judged(case, judged, where, figures, spread(gold))


def _judged(case: Case, judged: Interval | None, where: str, figures: dict[str, Any], sd: float) -> Check:
    if judged is None:
        return missing(NAME, f"fewer than {FEWEST} prompts have gold scores that vary", **figures)
    limit = case.limits.gold
    over = figures["overall"]["spearman"]
    says = f"reward and gold {where}: rank r = {judged}"
    says += f" (over all samples {over})" if where != "over all samples" and over is not None else ""
    if judged.high < limit or (over is not None and over.high < -abs(limit)):
        return Check(NAME, "fail", says, figures)
    if judged.low < limit:
        return Check(NAME, "warn", f"{says}, not surely above {limit:g}", figures)
    top = _top_falls(figures["bins"], sd)
    if top is not None:
        figures["top_falls_by_sd"] = top
        says += f"; but the highest tenth of rewards has gold {top:.2f} sd below that of lower ones"
        return Check(NAME, "warn", says, figures)
    return Check(NAME, "pass", says, figures)


def bins(reward: FloatArray, gold: FloatArray) -> list[dict[str, float]]:
    """The mean gold score, with its standard error, of each tenth of the rewards; equal rewards share a bin."""
    edges = np.unique(np.quantile(reward, np.linspace(0, 1, _BINS + 1)))
    at = np.clip(np.searchsorted(edges, reward, side="right") - 1, 0, max(0, len(edges) - 2))
    made = []
    for each in np.unique(at):
        inside = at == each
        error = gold[inside].std() / np.sqrt(inside.sum())
        made.append({"reward": float(reward[inside].mean()), "gold": float(gold[inside].mean()),
                     "error": float(error), "samples": int(inside.sum())})  # fmt: skip
    return made


def _top_falls(made: list[dict[str, float]], sd: float) -> float | None:
    """By how many sd of gold the top bin lies under the best one, if that is more than noise."""
    if len(made) < 3 or sd <= 0:
        return None
    best, top = max(made, key=lambda each: each["gold"]), made[-1]
    fall = best["gold"] - top["gold"]
    if fall / sd < _TOP_FALLS or fall < _ERRORS * float(np.hypot(best["error"], top["error"])):
        return None
    return fall / sd


def _of_labels(reward: FloatArray, gold: FloatArray) -> dict[str, float]:
    """With gold of 0 and 1: how often a right answer has the higher reward, and the error as a probability."""
    if not set(np.unique(gold)) <= {0.0, 1.0}:
        return {}
    right, wrong = reward[gold == 1.0], reward[gold == 0.0]
    area = scipy_stats().mannwhitneyu(right, wrong).statistic / (right.size * wrong.size)
    found = {"auc": float(area)}
    if reward.min() >= 0.0 and reward.max() <= 1.0:
        found["brier"] = float(np.mean((reward - gold) ** 2))
        found["calibration_error"] = float(
            sum(each["samples"] * abs(each["gold"] - each["reward"]) for each in bins(reward, gold)) / reward.size
        )
    return found
