"""Whether form is paid: repetition, echo of the prompt, refusals, politeness, a template, tool calls."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlwatch.observation import FloatArray
from rlwatch.offline.reward_health.case import Case
from rlwatch.offline.reward_health.check import Check, Verdict, against, few, missing, worst
from rlwatch.offline.reward_health.statistics import FEWEST, Interval, correlation, within

NAME = "format"
NEEDS = ("reward", "completion")

_MAY_BE_ASKED = ("template", "tool_calls")
"""What a task may well ask for: without gold scores its correlation with the reward is no more than a warning."""


def check(case: Case) -> Check:
    """The correlation of each measure with the reward within prompts, given gold where there is gold."""
    reward, gold = case.column("reward"), case.run.get("gold")
    if np.isfinite(reward).sum() < case.limits.samples:
        return few(NAME, "samples with a reward", int(np.isfinite(reward).sum()), case.limits.samples)
    varied = {name: held for name, held in case.run.measures.items() if held.min() < held.max()}
    figures: dict[str, Any] = {"means": {name: held.mean() for name, held in case.run.measures.items()}}
    if not varied:
        says = f"no completion differs in {', '.join(case.run.measures)}"
        return Check(NAME, "pass", says, figures)
    if case.run.group is None or within({"reward": reward}, case.run.group, case.run.group).groups < FEWEST:
        return missing(NAME, f"fewer than {FEWEST} prompts have two completions of different reward", **figures)
    found = {name: _preference(case, reward, held, gold) for name, held in varied.items()}
    known = {name: figure for name, figure in found.items() if figure is not None}
    figures["within_prompt_given_gold" if gold is not None else "within_prompt"] = known
    verdicts = {name: _verdict(case, name, figure, gold is not None) for name, figure in known.items()}
    told = sorted(known, key=lambda name: -abs(known[name].value))[:3]
    says = "; ".join(f"{name.replace('_', ' ')} r = {known[name]}" for name in told) or "no measure varies there"
    given = " and at the same gold score" if gold is not None else ""
    verdict = worst(list(verdicts.values())) if verdicts else "pass"
    if verdict == "not evaluated":
        wide = [name for name, each in verdicts.items() if each == verdict]
        return missing(NAME, f"the intervals of {', '.join(wide)} are too wide: {says}", **figures)
    return Check(NAME, verdict, f"reward within prompts{given}: {says}", figures)


def _verdict(case: Case, name: str, figure: Interval, with_gold: bool) -> Verdict:
    verdict = against(figure, case.limits.format)
    return "warn" if verdict == "fail" and name in _MAY_BE_ASKED and not with_gold else verdict


def _preference(case: Case, reward: FloatArray, held: FloatArray, gold: FloatArray | None) -> Interval | None:
    assert case.run.group is not None
    columns = {"reward": reward, "measure": held, **({} if gold is None else {"gold": gold})}
    data = within(columns, case.run.group, case.cluster())
    return correlation(data, "reward", "measure", None if gold is None else "gold")
