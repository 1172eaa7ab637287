"""Over-optimisation: over training the reward (the proxy) goes on rising while gold falls, or the two come apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rlwatch.observation import FloatArray
from rlwatch.offline.reward_health.case import Case, spread
from rlwatch.offline.reward_health.check import Check, few
from rlwatch.offline.reward_health.rollouts import IntArray
from rlwatch.offline.reward_health.statistics import Interval, correlation, overall, scipy_stats

NAME = "overoptimisation"
NEEDS = ("reward", "gold", "step")

Flags = npt.NDArray[np.bool_]

_BLOCKS, _FEWEST_BLOCKS = 10, 4
_ERRORS = 3.0
"""Standard errors that the fall from the best block must exceed: the best is picked, which flatters it."""

_KEPT = 0.5
"""Share of its early spread that the reward must keep for a falling correlation to count: see `_decline`."""


def check(case: Case) -> Check:
    """Compares blocks of steps; the distance is the square root of the KL, where there is a KL (Gao et al. 2022)."""
    reward, gold, step = (case.column(role) for role in NEEDS)
    held = np.isfinite(reward) & np.isfinite(gold) & np.isfinite(step)
    need = _FEWEST_BLOCKS * case.limits.samples
    if held.sum() < need:
        return few(NAME, "samples with reward, gold and step", int(held.sum()), need)
    block = _blocks(step[held], case.limits.samples)
    if block.max() + 1 < _FEWEST_BLOCKS:
        return few(NAME, "stretches of steps with samples enough", int(block.max()) + 1, _FEWEST_BLOCKS)
    kl = case.run.get("kl")
    columns = {"reward": reward[held], "gold": gold[held], "step": step[held]}
    if kl is not None:
        columns["kl"] = kl[held]
    made = [_block({name: x[block == each] for name, x in columns.items()}) for each in range(int(block.max()) + 1)]
    figures: dict[str, Any] = {"blocks": made} | _fall(made, spread(reward), spread(gold))
    figures["correlation"] = _decline(case, held, block)
    figures["kl"] = _distance(made)
    return _judged(case, figures)


def _blocks(step: FloatArray, least: int) -> IntArray:
    """Stretches of whole steps of about as many samples each."""
    _, ids, counts = np.unique(step, return_inverse=True, return_counts=True)
    wanted = max(1, min(_BLOCKS, step.size // least))
    block = np.minimum((np.cumsum(counts) - counts / 2) * wanted / step.size, wanted - 1).astype(np.int64)
    _, block = np.unique(block, return_inverse=True)
    found: IntArray = block[ids]
    return found


def _block(of: dict[str, FloatArray]) -> dict[str, Any]:
    """The means of one stretch of steps."""
    known = of["kl"][np.isfinite(of["kl"])] if "kl" in of else None
    return {
        "steps": [float(of["step"].min()), float(of["step"].max())], "samples": of["step"].size,
        "reward": float(of["reward"].mean()), "gold": float(of["gold"].mean()), "error": _error(of["gold"], of["step"]),
        "kl": float(known.mean()) if known is not None and known.size else None,
    }  # fmt: skip


def _error(gold: FloatArray, step: FloatArray) -> float:
    """The standard error of a block's mean: between its steps where it has several, as samples of one are alike."""
    by_sample = float(gold.std() / np.sqrt(gold.size))
    _, ids, counts = np.unique(step, return_inverse=True, return_counts=True)
    if len(counts) < 3:
        return by_sample
    means = np.bincount(ids, gold) / counts
    return max(by_sample, float(means.std(ddof=1) / np.sqrt(len(means))))


def _fall(made: list[dict[str, Any]], reward_sd: float, gold_sd: float) -> dict[str, Any]:
    """From the block where gold was best to the last: both changes in sd, and the fall in standard errors."""
    best, last = max(made, key=lambda each: each["gold"]), made[-1]
    fall = best["gold"] - last["gold"]
    return {
        "gold_best_at": best["steps"],
        "gold_fall_in_sd": fall / gold_sd if gold_sd else 0.0,
        "gold_fall_in_errors": fall / max(1e-12, float(np.hypot(best["error"], last["error"]))),
        "reward_rise_in_sd": (last["reward"] - best["reward"]) / reward_sd if reward_sd else 0.0,
    }


def _decline(case: Case, held: Flags, block: IntArray) -> dict[str, Any]:
    """The correlation of reward and gold in the first and the last third of the blocks.

    A policy that has learnt its task has rewards and gold scores of little spread, and so little correlation: then
    the fall is no sign of anything, and is marked as not to be judged.
    """
    third = max(1, int(block.max() + 1) // 3)
    columns = {role: case.column(role)[held] for role in ("reward", "gold")}
    cluster = case.cluster()[held]
    found: dict[str, Any] = {}
    for name, inside in (("first", block < third), ("last", block > block.max() - third)):
        part = {role: x[inside] for role, x in columns.items()}
        found[name] = correlation(overall(part, cluster[inside]), "reward", "gold")
        found[f"{name}_sd"] = [spread(x[inside]) for x in columns.values()]
    kept = [b >= _KEPT * a for a, b in zip(found["first_sd"], found["last_sd"], strict=True)]
    found["judged"] = all(kept) and found["first"] is not None and found["last"] is not None
    return found


def _distance(made: list[dict[str, Any]]) -> dict[str, Any] | str:
    """How the gap between proxy and gold, each in its sd over the blocks, grows with the square root of the KL."""
    known = [each for each in made if each["kl"] is not None and each["kl"] >= 0]
    if len(known) < _FEWEST_BLOCKS:
        return "not evaluated, because kl is missing (--map kl=COLUMN)"
    root = np.sqrt([each["kl"] for each in known])
    if root.max() - root.min() < 1e-9:
        return "not evaluated, because the KL does not change"
    columns = [np.asarray([each[name] for each in known]) for name in ("reward", "gold")]
    proxy, gold = ((x - x[0]) / (x.std() or 1.0) for x in columns)
    fit = scipy_stats().linregress(root, proxy - gold)
    best = max(known, key=lambda each: each["gold"])
    return {"sqrt_kl": [float(root[0]), float(root[-1])], "sqrt_kl_where_gold_is_best": float(np.sqrt(best["kl"])),
            "gap_per_sqrt_kl": float(fit.slope), "gap_correlation": float(fit.rvalue)}  # fmt: skip


def _judged(case: Case, figures: dict[str, Any]) -> Check:
    limits, kl, parts = case.limits, figures["kl"], figures["correlation"]
    fall, rise = figures["gold_fall_in_sd"], figures["reward_rise_in_sd"]
    fell = fall > limits.gold_drop and figures["gold_fall_in_errors"] > _ERRORS
    steps = "{:g} to {:g}".format(*figures["gold_best_at"])
    says = f"gold was best at steps {steps}; since then gold {-fall:+.2f} sd, reward {rise:+.2f} sd"
    says += f"; their correlation {parts['first']} early, {parts['last']} late" if parts["judged"] else ""
    if isinstance(kl, dict):
        says += f"; sqrt(KL) {kl['sqrt_kl'][0]:.2f} -> {kl['sqrt_kl'][1]:.2f}"
        says += f", {kl['sqrt_kl_where_gold_is_best']:.2f} where gold is best" if fell else ""
    else:
        says += f"; KL distance {kl}"
    if fell and rise > limits.proxy_rise:
        return Check(NAME, "fail", f"the reward rose while gold fell: {says}", figures)
    if parts["judged"]:
        first, last = parts["first"], parts["last"]
        if _surely_lower(first, last, limits.decline):
            return Check(NAME, "fail", f"the reward no longer follows gold: {says}", figures)
        if _surely_lower(first, last, 0.0) and first.value - last.value > limits.decline / 3:
            return Check(NAME, "warn", f"the reward follows gold less: {says}", figures)
    return Check(NAME, "warn" if fell else "pass", says, figures)


def _surely_lower(first: Interval, last: Interval, by: float) -> bool:
    """Whether the second is lower by more than `by`, their errors taken together."""
    return first.value - last.value - float(np.hypot(first.value - first.low, last.high - last.value)) > by
