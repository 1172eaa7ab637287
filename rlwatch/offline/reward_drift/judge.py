"""The verdicts on two reward models."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlwatch.offline.reward_drift.agreement import correlations, scale_and_offset, sign_flips
from rlwatch.offline.reward_drift.data import Scores
from rlwatch.offline.reward_drift.preferences import preferences
from rlwatch.offline.reward_drift.slices import of_slices
from rlwatch.offline.reward_health.check import Check, Verdict, against, few, missing, worst
from rlwatch.offline.reward_health.statistics import FEWEST, Interval

CHECKS = ("scores", "rank", "preferences", "scale", "signs", "slices")

WORDS = {
    "fail": "drifted",
    "not evaluated": "not evaluated",
    "warn": "not surely the same",
    "pass": "the same",
}
RESCALED = "rescaled: the same order on another scale"


def judge(scores: Scores, rows: int) -> list[Check]:
    """All checks on the rows that have both scores, of `rows` in all."""
    made = [_scores(scores, rows)]
    if scores.a.size < scores.limits.rows:
        what = "rows with two finite scores"
        return made + [few(name, what, scores.a.size, scores.limits.rows) for name in CHECKS[1:]]
    constant = [name for name, values in (("A", scores.a), ("B", scores.b)) if np.ptp(values) == 0.0]
    if constant:
        because = f"{' and '.join(constant)} gives every row the same score"
        return [Check("scores", "fail", because, made[0].figures), *(missing(name, because) for name in CHECKS[1:])]
    return [*made, _rank(scores), _preferences(scores), _scale(scores), _signs(scores), _slices(scores)]


def word(checks: list[Check]) -> str:
    """The verdict in words."""
    verdicts = {check.name: check.verdict for check in checks}
    warned = {name for name, verdict in verdicts.items() if verdict == "warn"}
    overall = worst(list(verdicts.values()))
    if overall == "warn" and warned <= {"scale", "signs"}:
        return RESCALED
    return WORDS[overall]


def _scores(scores: Scores, rows: int) -> Check:
    lost = rows - scores.a.size
    figures = {"rows": rows, "with_both": scores.a.size}
    if not lost:
        return Check("scores", "pass", f"all {rows:,} rows have two finite scores", figures)
    verdict: Verdict = "fail" if lost / rows > scores.limits.missing else "warn"
    return Check("scores", verdict, f"{lost:,} of {rows:,} rows lack a finite score of A or B", figures)


def _rank(scores: Scores) -> Check:
    found = correlations(scores)
    spearman = found["spearman"]
    if spearman is None:
        return missing("rank", f"there are fewer than {FEWEST} prompts or rows", **found)
    says = f"Spearman {spearman}, Pearson {found['pearson']}, Kendall {found['kendall']}"
    return _outcome("rank", at_least(spearman, scores.limits.rank), says, found)


def _preferences(scores: Scores) -> Check:
    found = preferences(scores)
    apart = found["pairs"] - found["pairs_tied_by_one"]
    if apart < scores.limits.pairs or found["flips"] is None:
        what = "pairs of answers to one prompt that both models tell apart"
        return few("preferences", what, apart, scores.limits.pairs)
    says = f"{_percent(found['flips'])} of {apart:,} pairs of answers to one prompt turn their order"
    if found.get("flips_where_a_is_sure") is not None:
        says += f"; {_percent(found['flips_where_a_is_sure'])} of those on which A is surer than usual"
    if found.get("a_prefers_chosen") is not None:
        chosen = [_percent(found[f"{name}_prefers_chosen"]) for name in "ab"]
        says += f"; the chosen answer is preferred in {chosen[0]} by A, in {chosen[1]} by B"
    return _outcome("preferences", against(found["flips"], scores.limits.flips), says, found)


def _scale(scores: Scores) -> Check:
    found = scale_and_offset(scores)
    assert found is not None
    scale, moved, limits = found["scale"], found["median_move_in_sd"], scores.limits
    ratio = found["iqr_ratio"] if found["iqr_ratio"] is not None else scale.value
    says = f"B = {scale} x A {found['offset']:+.3g}; interquartile range x {ratio:.2f}, median moved by {moved} sd of A"
    far = not 1 / limits.scale <= ratio <= limits.scale
    far = far or scale.high < 0.0 or moved.low > limits.offset or moved.high < -limits.offset
    return Check("scale", "warn" if far else "pass", says, found)


def _signs(scores: Scores) -> Check:
    flips = sign_flips(scores)
    if flips is None:
        return missing("signs", f"there are fewer than {FEWEST} prompts or rows")
    verdict = against(flips, scores.limits.signs)
    says = f"{_percent(flips)} of the rows change their sign"
    return Check("signs", "pass" if verdict == "pass" else "warn", says, {"flips": flips})


def _slices(scores: Scores) -> Check:
    if not scores.slices:
        return missing("slices", "there is neither --slice COLUMN nor a completion whose length could slice")
    found = of_slices(scores)
    known = [row for row in found if row["spearman"] is not None]
    figures: dict[str, Any] = {"slices": found}
    if not known:
        return missing("slices", f"no slice has {scores.limits.rows} rows", **figures)
    for row in known:
        row["verdict"] = _of_slice(row, scores)
    lowest = min(known, key=lambda row: row["spearman"].value)
    says = f"Spearman is lowest in {lowest['by']} {lowest['slice']}: {lowest['spearman']}"
    flipped = [row for row in known if row["flips"] is not None]
    if flipped:
        most = max(flipped, key=lambda row: row["flips"].value)
        says += f"; most pairs turn in {most['by']} {most['slice']}: {_percent(most['flips'])}"
    small = len(found) - len(known)
    says += f"; {small} of {len(found)} slices have under {scores.limits.rows} rows and are not judged" if small else ""
    return _outcome("slices", worst([row["verdict"] for row in known]), says, figures)


def _of_slice(row: dict[str, Any], scores: Scores) -> Verdict:
    """Slices are small, and many: only a figure that is itself beyond its limit warns."""
    spearman, flips, limits = row["spearman"], row["flips"], scores.limits
    if spearman.high < limits.slice_rank or (flips is not None and flips.low > limits.slice_flips):
        return "fail"
    beyond = spearman.value < limits.slice_rank or (flips is not None and flips.value > limits.slice_flips)
    return "warn" if beyond else "pass"


def at_least(figure: Interval, limit: float) -> Verdict:
    """`fail` if the whole interval is under the limit, `pass` if it is over it; else as of `against`."""
    return against(Interval(-figure.value, -figure.high, -figure.low), -limit)


def _outcome(name: str, verdict: Verdict, says: str, figures: dict[str, Any]) -> Check:
    if verdict == "not evaluated":
        return missing(name, f"an interval is too wide, more rows are needed: {says}", **figures)
    return Check(name, verdict, says, figures)


def _percent(share: Interval) -> str:
    return f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}]"
