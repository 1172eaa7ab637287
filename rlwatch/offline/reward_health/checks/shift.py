"""How far rewards, lengths, components and repetition lie from a reference's, as effect sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rlwatch.observation import FloatArray
from rlwatch.offline.reward_health.case import Case
from rlwatch.offline.reward_health.check import Check, Verdict, few, missing, worst
from rlwatch.offline.reward_health.rollouts import Rollouts
from rlwatch.offline.reward_health.statistics import FEWEST, Interval, scipy_stats

NAME = "shift"
NEEDS = ("reward", "reference")

AnyArray = npt.NDArray[Any]

_RESAMPLES = 300
_MOST = 5000  # samples of each side that are compared, drawn by chance


def check(case: Case) -> Check:
    """Judged is Cliff's delta, P(run > reference) - P(run < reference); a reward that is only higher warns at most."""
    assert case.reference is not None
    there, here = _columns(case.reference), _columns(case.run)
    figures: dict[str, Any] = {}
    verdicts: dict[str, Verdict] = {}
    for name in [name for name in here if name in there]:
        sides = [values[np.isfinite(values)] for values in (here[name], there[name])]
        if min(side.size for side in sides) < case.limits.samples:
            if name == "reward":
                least = min(side.size for side in sides)
                return few(NAME, "samples with a reward in both files", least, case.limits.samples)
            continue
        figures[name] = effect(*sides, *(_clusters(made, values) for made, values in
                                         ((case.run, here[name]), (case.reference, there[name]))))  # fmt: skip
        verdicts[name] = _verdict(case, name, figures[name]["cliffs_delta"])
    if case.run.length_unit != case.reference.length_unit:
        figures["length_not_compared"] = f"{case.run.length_unit} here, {case.reference.length_unit} there"
    figures["share_of_prompts_in_reference"] = shared = _shared(case.run, case.reference)
    verdict = worst(list(verdicts.values()))
    told = sorted(verdicts, key=lambda name: (["fail", "not evaluated", "warn", "pass"].index(verdicts[name]),
                                              -abs(figures[name]["standardised"])))[:3]  # fmt: skip
    says = "; ".join(_said(name, figures[name]) for name in dict.fromkeys([*told, "reward"]))
    if shared is not None and shared < 0.5:
        says += f"; only {shared:.0%} of the prompts are the reference's, so that it may be they that differ"
        verdict = "warn" if verdict == "fail" else verdict
    if verdict == "not evaluated":
        return missing(NAME, f"there are too few samples to tell: {says}", **figures)
    return Check(NAME, verdict, says, figures)


def _columns(made: Rollouts) -> dict[str, FloatArray]:
    length = made.get("length")
    found = {"reward": made.values["reward"], **{f"component {name}": part for name, part in made.components.items()}}
    if length is not None:
        found[f"length in {made.length_unit}"] = length
    if "repetition" in made.measures:
        found["repetition"] = made.measures["repetition"]
    return found


def _clusters(made: Rollouts, values: FloatArray) -> FloatArray:
    ids = made.prompt if made.prompt is not None and len(np.unique(made.prompt)) >= FEWEST else np.arange(made.size)
    return np.asarray(ids, dtype=np.float64)[np.isfinite(values)]


def effect(here: FloatArray, there: FloatArray, of_here: FloatArray, of_there: FloatArray) -> dict[str, Any]:
    """Means, Glass's delta, Wasserstein's distance in the reference's sd, and Cliff's delta with its interval.

    `of_here` and `of_there` name the prompt of each sample: whole prompts are resampled.
    """
    stats, rng = scipy_stats(), np.random.default_rng(0)
    sd = there.std()
    scale = sd if sd > 1e-9 * max(1.0, abs(there).max()) else None
    sides = []
    for values, ids in ((here, of_here), (there, of_there)):
        taken = rng.choice(values.size, _MOST, replace=False) if values.size > _MOST else np.arange(values.size)
        _, codes = np.unique(ids[taken], return_inverse=True)
        sides.append((values[taken], codes, int(codes.max()) + 1))
    (x, x_ids, x_count), (y, y_ids, y_count) = sides

    def delta(one: Any, other: Any) -> float:
        return cliffs_delta(x, np.bincount(one, minlength=x_count)[x_ids], y,
                            np.bincount(other, minlength=y_count)[y_ids])  # fmt: skip

    drawn = stats.bootstrap((np.arange(x_count), np.arange(y_count)), delta, vectorized=False, method="percentile",
                            n_resamples=_RESAMPLES, rng=rng)  # fmt: skip
    value = delta(np.arange(x_count), np.arange(y_count))
    low, high = drawn.confidence_interval
    change = here.mean() - there.mean()
    return {
        "mean": float(here.mean()), "reference_mean": float(there.mean()), "reference_sd": float(sd),
        "standardised": float(change / scale) if scale else float(np.sign(change) * np.inf) if change else 0.0,
        "wasserstein_in_sd": float(stats.wasserstein_distance(here, there) / scale) if scale else None,
        "cliffs_delta": Interval(value, min(value, float(low)), max(value, float(high))),
        "samples": [int(here.size), int(there.size)],
    }  # fmt: skip


def cliffs_delta(x: FloatArray, x_weights: AnyArray, y: FloatArray, y_weights: AnyArray) -> float:
    """P(x > y) - P(x < y) of weighted samples, -1 to 1 (Cliff 1993)."""
    order = np.argsort(y)
    below = np.concatenate([[0.0], np.cumsum(y_weights[order])])
    under = below[np.searchsorted(y[order], x, side="left")]
    over = below[-1] - below[np.searchsorted(y[order], x, side="right")]
    return float(np.sum(x_weights * (under - over)) / max(1e-12, x_weights.sum() * below[-1]))


def _verdict(case: Case, name: str, delta: Interval) -> Verdict:
    low, high = sorted((abs(delta.low), abs(delta.high)))
    least = 0.0 if delta.low <= 0.0 <= delta.high else low
    if least > case.limits.shift:
        return "warn" if name == "reward" and delta.value > 0 else "fail"
    if high <= case.limits.shift_warn:
        return "pass"
    return "not evaluated" if least == 0.0 and high - least > case.limits.shift else "warn"


def _said(name: str, found: dict[str, Any]) -> str:
    words = f"{name} {found['reference_mean']:.3g} -> {found['mean']:.3g}, {found['standardised']:+.2f} sd"
    if found["wasserstein_in_sd"] is not None:
        words += f", Wasserstein {found['wasserstein_in_sd']:.2f} sd"
    return f"{words}, Cliff's delta {found['cliffs_delta']}"


def _shared(run: Rollouts, reference: Rollouts) -> float | None:
    """The share of the run's prompts that the reference has too; None where one of them names none."""
    if "prompt" not in run.columns or "prompt" not in reference.columns:
        return None
    mine = set(run.prompt_hashes)
    return len(mine & set(reference.prompt_hashes)) / len(mine)
