"""How two sets of scores agree: correlations, scale and offset, signs; each with an interval."""

from __future__ import annotations

from typing import Any

import numpy as np

from rlwatch.observation import FloatArray
from rlwatch.offline.reward_drift.data import Scores
from rlwatch.offline.reward_health.statistics import (
    CONFIDENCE,
    FEWEST,
    Interval,
    by_cluster,
    correlation,
    overall,
    resampled,
    scipy_stats,
)

_MOST = 2000  # rows of Theil and Sen's fit, which looks at all pairs, and of Kendall's interval
_RESAMPLES = 200


def correlations(scores: Scores) -> dict[str, Interval | None]:
    """Pearson, Spearman and Kendall (tau-b) over all rows."""
    columns = {"a": scores.a, "b": scores.b}
    return {
        "pearson": correlation(overall(columns, scores.cluster()), "a", "b"),
        "spearman": correlation(overall(columns, scores.cluster(), ranked=True), "a", "b"),
        "kendall": kendall(scores),
    }


def kendall(scores: Scores) -> Interval | None:
    """tau-b, its interval by bootstrap over prompts, of 2,000 rows at most."""
    at = np.random.default_rng(0).permutation(scores.a.size)[:_MOST]
    _, ids = np.unique(scores.cluster()[at], return_inverse=True)
    a, b, count = scores.a[at], scores.b[at], int(ids.max(initial=-1)) + 1
    if count < FEWEST or np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return None
    rows = np.split(np.argsort(ids, kind="stable"), np.cumsum(np.bincount(ids))[:-1])
    stats = scipy_stats()

    def tau(chosen: Any) -> float:
        taken = np.concatenate([rows[int(each)] for each in chosen])
        return float(stats.kendalltau(a[taken], b[taken]).statistic)

    drawn = stats.bootstrap(
        (np.arange(count),), tau, vectorized=False, method="percentile", n_resamples=_RESAMPLES,
        confidence_level=CONFIDENCE, rng=np.random.default_rng(0),
    )  # fmt: skip
    value = float(stats.kendalltau(scores.a, scores.b).statistic)
    low, high = drawn.confidence_interval
    return Interval(value, min(value, float(low)), max(value, float(high))) if np.isfinite([low, high]).all() else None


def scale_and_offset(scores: Scores) -> dict[str, Any] | None:
    """The robust line B = scale x A + offset (Theil and Sen), and the median's move in sd of A; None if A is constant.

    The slope's interval is scipy's, for independent rows. Noise in A flattens the slope, so that the ratio of the
    interquartile ranges, which it does not, stands beside it.
    """
    at = np.random.default_rng(0).permutation(scores.a.size)[:_MOST]
    a, b = scores.a[at], scores.b[at]
    if np.ptp(a) == 0.0:
        return None
    stats = scipy_stats()
    fit = stats.theilslopes(b, a, CONFIDENCE, method="joint")
    sd, spread = float(scores.a.std()), float(stats.iqr(scores.a))
    moved = (scores.b - scores.a) / sd
    return {
        "scale": Interval(float(fit.slope), float(fit.low_slope), float(fit.high_slope)),
        "offset": float(fit.intercept),
        "iqr_ratio": float(stats.iqr(scores.b)) / spread if spread > 0 else None,
        "median_move_in_sd": _median_move(scores.a / sd, scores.b / sd),
        "mean_move_in_sd": float(moved.mean()),
        "sd": [sd, float(scores.b.std())],
    }


def _median_move(a: FloatArray, b: FloatArray) -> Interval:
    """The median of B less that of A, by paired bootstrap over rows, of 2,000 at most."""
    at = np.random.default_rng(0).permutation(a.size)[:_MOST]

    def move(one: FloatArray, other: FloatArray, axis: int = -1) -> FloatArray:
        return np.asarray(np.median(other, axis=axis) - np.median(one, axis=axis))

    drawn = scipy_stats().bootstrap((a[at], b[at]), move, paired=True, vectorized=True, method="percentile",
                                    n_resamples=_RESAMPLES, rng=np.random.default_rng(0))  # fmt: skip
    value = float(np.median(b) - np.median(a))
    low, high = (float(each) for each in drawn.confidence_interval)
    return Interval(value, min(value, low), max(value, high))


def sign_flips(scores: Scores) -> Interval | None:
    """Share of rows whose scores have opposite signs."""
    turned = (scores.a * scores.b < 0.0).astype(np.float64)
    return share(turned, np.ones_like(turned), scores)


def share(hits: FloatArray, of: FloatArray, scores: Scores) -> Interval | None:
    """A share with its interval: the wider of the bootstrap over prompts and Wilson's, which 0 hits do not fool."""
    cluster = scores.cluster()
    total = float(of.sum())
    if total <= 0:
        return None
    parts = [by_cluster(hits, cluster), by_cluster(of, cluster)]
    drawn = resampled(parts, lambda one, all_: one / np.maximum(all_, 1e-12))
    if drawn is None:
        return None
    wilson = scipy_stats().binomtest(round(float(hits.sum())), round(total)).proportion_ci(CONFIDENCE, "wilson")
    return Interval(drawn.value, min(drawn.low, float(wilson.low)), max(drawn.high, float(wilson.high)))
