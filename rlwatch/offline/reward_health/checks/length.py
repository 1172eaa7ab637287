"""Whether longer (or shorter) answers to the same prompt are paid for being so."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlwatch.observation import FloatArray
from rlwatch.offline.reward_health.case import Case
from rlwatch.offline.reward_health.check import Check, against, few, missing, more_needed, worst
from rlwatch.offline.reward_health.statistics import FEWEST, Interval, correlation, overall, within

NAME = "length"
NEEDS = ("reward", "length")


def check(case: Case) -> Check:
    """The correlation within prompts is judged; with gold scores, what of it gold does not explain.

    Over all samples hard prompts with long answers, or learning itself, can make a correlation of any sign, so that
    it is shown and never passes.
    """
    columns = {"reward": case.column("reward"), "length": case.column("length")}
    held = np.isfinite(columns["reward"]) & np.isfinite(columns["length"])
    if held.sum() < case.limits.samples:
        return few(NAME, "samples with reward and length", int(held.sum()), case.limits.samples)
    figures: dict[str, Any] = {"unit": case.run.length_unit, "overall": _both(case, columns, "overall")}
    gold = case.run.get("gold")
    inner = _both(case, columns, "within")
    if inner["pearson"] is None or inner["spearman"] is None:
        return _unjudged(case, columns, figures)
    figures["within_prompt"] = inner
    judged, where = inner, "within prompts"
    if gold is not None:
        partial = _both(case, {**columns, "gold": gold}, "within", given="gold")
        if partial["pearson"] is not None:
            figures["within_prompt_given_gold"] = partial
            judged, where = partial, "within prompts and at the same gold score"
    late = _late(case, columns if gold is None or judged is inner else {**columns, "gold": gold})
    if late is not None:
        figures["last_third"] = late
        if all(each is not None and each.low > case.limits.length for each in late.values()):
            judged, where = late, f"{where}, in the last third of training"
    for name, part in case.run.components.items():
        if len(case.run.components) > 1 and (r := _both(case, {**columns, "reward": part}, "within")["pearson"]):
            figures.setdefault("components", {})[name] = r
    return _judged(case, judged, where, figures)


def _late(case: Case, columns: dict[str, FloatArray]) -> dict[str, Interval | None] | None:
    """The same of the last third of the steps: a shortcut that was found late is diluted in the whole."""
    if case.run.get("step") is None:
        return None
    late = np.zeros(case.run.size, dtype=bool)
    late[case.late()] = True
    cut = {name: np.where(late, values, np.nan) for name, values in columns.items()}
    found = _both(case, cut, "within", given="gold" if "gold" in columns else None)
    return found if all(found.values()) else None


def _judged(case: Case, judged: dict[str, Interval | None], where: str, figures: dict[str, Any]) -> Check:
    known = [each for each in judged.values() if each is not None]
    figure = max(known, key=lambda each: each.low)
    verdict = worst([against(each, case.limits.length) for each in known])
    says = f"reward and length {where}: r = {judged['pearson']}, rank r = {judged['spearman']}"
    over = figures["overall"]["pearson"]
    says += f" (over all samples {over})" if over is not None else ""
    if verdict == "not evaluated" and not any(each.low > case.limits.length for each in known):
        wide = max(known, key=lambda each: each.high - each.low)
        return missing(NAME, f"{wide} is too wide: about {more_needed(wide, case.run.size):,} samples are needed, "
                             f"there are {case.run.size:,}", **figures)  # fmt: skip
    if figure.low > case.limits.length:
        return Check(NAME, "fail", f"longer answers are paid more. {says}", figures)
    if verdict == "pass" and any(each.high < -case.limits.length for each in known):
        return Check(NAME, "warn", f"shorter answers are paid more. {says}", figures)
    return Check(NAME, "warn" if verdict == "not evaluated" else verdict, says, figures)


def _unjudged(case: Case, columns: dict[str, FloatArray], figures: dict[str, Any]) -> Check:
    """Why there is no correlation within prompts; over all samples a strong one warns."""
    reward, length = (columns[name][np.isfinite(columns[name])] for name in ("reward", "length"))
    if reward.min() == reward.max():
        return missing(NAME, f"all rewards are {reward[0]:.4g}", **figures)
    if length.min() == length.max():
        says = f"all completions are {length[0]:.4g} {case.run.length_unit} long"
        return Check(NAME, "pass", f"{says}: the reward cannot prefer longer ones", figures)
    over = figures["overall"]["pearson"]
    shown = f"; over all samples r = {over}, which prompts alone can make" if over is not None else ""
    if over is not None and over.low > case.limits.length:
        return Check(NAME, "warn", f"no prompt has two completions that differ{shown}", figures)
    return missing(NAME, f"fewer than {FEWEST} prompts have two completions of different reward and length{shown}",
                   **figures)  # fmt: skip


def _both(case: Case, columns: dict[str, FloatArray], how: str, given: str | None = None) -> dict[str, Interval | None]:
    """Pearson and Spearman of reward and length, `overall` or `within` prompt (and step)."""
    found: dict[str, Interval | None] = {"pearson": None, "spearman": None}
    for name, ranked in (("pearson", False), ("spearman", True)):
        if how == "overall":
            data = overall(columns, case.cluster(), ranked=ranked)
        elif case.run.group is None:
            return found
        else:
            data = within(columns, case.run.group, case.cluster(), ranked=ranked)
            if data.groups < FEWEST and case.run.prompt is not None:
                data = within(columns, case.run.prompt, case.cluster(), ranked=ranked)
            if data.groups < FEWEST:
                return found
        found[name] = correlation(data, "reward", "length", given)
    return found
