"""Leakage: a column that is the step in disguise, or a reward that pays the same answer by the step.

A reward that rises over training is learning: its samples differ within a step. A leak is one value for all samples of
a step, and follows the step; or it shows where the same answer comes again at another step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlwatch.observation import FloatArray
from rlwatch.offline.reward_health.case import Case
from rlwatch.offline.reward_health.check import Check, few
from rlwatch.offline.reward_health.statistics import FEWEST, Interval, correlation, scipy_stats, within

NAME = "leakage"
NEEDS = ("reward", "step")

_STEPS = 10
_LEFT = 1e-6
"""Share of the reward's sd that rounding may leave."""

_UNKNOWN = "whether the same answer is paid by the step is"
_LINE = 1.0 - 1e-9
"""Correlation with the step from which a column with one sample a step is the step itself: no learning is so smooth."""


def check(case: Case) -> Check:
    """Looks at reward, gold, components and other columns of numbers."""
    step = case.column("step")
    steps = len(np.unique(step[np.isfinite(step)]))
    if steps < _STEPS:
        return few(NAME, "different steps", steps, _STEPS)
    roles = {role: values for role in ("reward", "gold", "length") if (values := case.run.get(role)) is not None}
    columns = {**roles, **{f"component {name}": part for name, part in case.run.components.items()}}
    rest = beyond_components(case)
    if rest is not None:
        columns["what the components do not explain of the reward"] = rest
    others = {f"column {name}": values for name, values in case.run.features.items()}
    found = {name: at for name, values in {**columns, **others}.items() if (at := follows(values, step)) is not None}
    leaks = {name: at for name, at in found.items() if _leaks(case, at)}
    same = _same_answers(case, step)
    figures = {"columns": found, "same_answers": same}
    inner = [name for name in leaks if name in columns]
    if isinstance(same, Interval) and max(same.low, -same.high) > case.limits.step_same:
        says = f"the same answer to the same prompt is paid by the step: within answers r = {same}"
        return Check(NAME, "fail", says, figures)
    known = f"; for the same answers at other steps r = {same}" if isinstance(same, Interval) else f"; {same}"
    if inner:
        return Check(NAME, "fail", f"{_said(inner, leaks)}{known}", figures)
    if leaks:
        return Check(NAME, "warn", f"{_said(list(leaks), leaks)}: no reward may be made of it{known}", figures)
    return Check(NAME, "pass", f"none of {len(columns) + len(others)} columns is the step in disguise{known}", figures)


def beyond_components(case: Case) -> FloatArray | None:
    """The reward less its components, weighed as fits best within steps: no component takes what the step gives.

    None without components, where the reward is nothing but their sum, or where nothing is left.
    """
    parts, reward, step = case.run.components, case.column("reward"), case.column("step")
    if not parts or case.run.reward_is_sum:
        return None
    table = np.column_stack([reward, *parts.values()])
    held = np.isfinite(table).all(axis=1) & np.isfinite(step)
    if held.sum() < len(parts) + _STEPS or np.ptp(reward[held]) == 0.0:
        return None
    known = table[held] / np.maximum(np.abs(table[held]).max(axis=0), 1e-100)
    _, ids, counts = np.unique(step[held], return_inverse=True, return_counts=True)
    inside = np.column_stack([column - (np.bincount(ids, column) / counts)[ids] for column in known.T])
    fit, *_ = np.linalg.lstsq(inside[:, 1:], inside[:, 0], rcond=None)
    rest = np.full(reward.size, np.nan)
    rest[held] = known[:, 0] - known[:, 1:] @ fit
    return rest if float(np.nanstd(rest)) > _LEFT * float(known[:, 0].std()) else None


def follows(values: FloatArray, step: FloatArray) -> dict[str, Any] | None:
    """How much of a column's variance lies between steps, and how its means follow the step; None if it is constant."""
    held = np.isfinite(values) & np.isfinite(step)
    if held.sum() < _STEPS or np.ptp(values[held]) == 0.0:
        return None
    at, ids, counts = np.unique(step[held], return_inverse=True, return_counts=True)
    if len(at) < _STEPS:
        return None
    means = np.bincount(ids, values[held]) / counts
    inside = float(np.sum((values[held] - means[ids]) ** 2))
    total = float(np.sum((values[held] - values[held].mean()) ** 2))
    line = float(np.corrcoef(at, means)[0, 1]) if means.std() > 0 else 0.0
    return {
        "between_steps": 1.0 - inside / total if total > 0 else 0.0,
        "rank_with_step": float(scipy_stats().spearmanr(at, means).statistic) if means.std() > 0 else 0.0,
        "line_with_step": line,
        "samples_per_step": float(np.median(counts)),
    }


def _leaks(case: Case, at: dict[str, Any]) -> bool:
    if at["samples_per_step"] < 2:
        return bool(abs(at["line_with_step"]) > _LINE)
    follows_it: bool = abs(at["rank_with_step"]) >= case.limits.step_follows
    one_a_step: bool = at["between_steps"] >= case.limits.step_share
    return follows_it and one_a_step


def _said(names: list[str], leaks: dict[str, dict[str, Any]]) -> str:
    told = "; ".join(
        f"{name}: {leaks[name]['between_steps']:.2%} of its variance is between steps, rank r with the step "
        f"{leaks[name]['rank_with_step']:.3f}"
        for name in names[:3]
    )
    return f"{told}{f'; and {len(names) - 3} more' if len(names) > 3 else ''}"


def _same_answers(case: Case, step: FloatArray) -> Interval | str:
    """The correlation of step and reward within equal answers to equal prompts, or why there is none."""
    if case.run.answer is None:
        return f"{_UNKNOWN} not evaluated, because prompts or completions are missing"
    reward = case.column("reward")
    data = within({"step": step, "reward": reward}, case.run.answer, case.run.answer)
    if data.groups < FEWEST:
        return f"{_UNKNOWN} not evaluated, because it needs {FEWEST} answers at two steps and there are {data.groups}"
    inside = float(np.sum(data.columns["reward"] ** 2))
    total = float(np.nansum((reward - np.nanmean(reward)) ** 2))
    if inside <= 1e-9 * total:
        return Interval(0.0, 0.0, 0.0)  # the same answer always got the same reward
    return correlation(data, "step", "reward") or Interval(0.0, 0.0, 0.0)
