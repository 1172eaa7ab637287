"""Correlations with intervals, over all samples and within groups; scipy resamples, whole prompts at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rlwatch.observation import FloatArray

if TYPE_CHECKING:
    from rlwatch.offline.reward_health.rollouts import IntArray

Columns = Mapping[str, FloatArray]

RESAMPLES = 999
CONFIDENCE = 0.95
FEWEST = 10
"""Clusters from which an interval is made."""

_MOST = 1000  # clusters that are resampled: more are put together by chance, which keeps them independent
_ROUNDING = 1e-9
"""Share of a column's squares that a fit may leave for reasons of rounding alone."""

_TINY = 1e-20  # of squares of columns that are at most 1: what rounding leaves of a constant one is far below


class MissingScipyError(Exception):
    """scipy is not installed; the text says what to install."""


class Interval(NamedTuple):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def scipy_stats() -> Any:
    """The module scipy.stats; raises `MissingScipyError`."""
    try:
        import scipy.stats
    except ModuleNotFoundError as error:
        raise MissingScipyError("the statistics need scipy: pip install 'rlwatch[stats]'") from error
    return scipy.stats


class Within(NamedTuple):
    """Samples of groups that have two or more, each column less its group's mean.

    Attributes:
        columns: name -> shape (n,).
        scales: name -> the largest value before.
        cluster: what is resampled as one, shape (n,).
        groups: how many in which the first column varies.
    """

    columns: dict[str, FloatArray]
    scales: dict[str, float]
    cluster: IntArray
    groups: int


def within(columns: Columns, group: IntArray, cluster: IntArray, *, ranked: bool = False) -> Within:
    """Centres columns within their groups; `ranked` takes ranks within the group instead, as shares of its size."""
    held = np.isfinite(np.asarray(list(columns.values()))).all(axis=0)
    _, ids, counts = np.unique(group[held], return_inverse=True, return_counts=True)
    kept = np.flatnonzero(held)[counts[ids] > 1]
    _, ids, counts = np.unique(group[kept], return_inverse=True, return_counts=True)
    made, scales = {}, {}
    for name, values in columns.items():
        taken = values[kept]
        scales[name] = _scale(taken)
        if ranked and taken.size:
            taken, scales[name] = _ranks(taken, ids) / counts[ids], 1.0
        made[name] = taken - (np.bincount(ids, taken) / counts)[ids] if taken.size else taken
    first = next(iter(made))
    spread = np.bincount(ids, (made[first] / scales[first]) ** 2) if kept.size else np.zeros(0)
    return Within(made, scales, cluster[kept], int((spread > _TINY).sum()))


def _scale(values: FloatArray) -> float:
    """The largest value, 1 if that is 0: over it squares stay in range, and rounding is told from variation."""
    return float(np.abs(values).max(initial=0.0)) or 1.0


def _ranks(values: FloatArray, ids: IntArray) -> FloatArray:
    """Mean ranks within each group, up to a constant of the group."""
    stats = scipy_stats()
    dense = stats.rankdata(values, method="dense").astype(np.int64)
    ranks: FloatArray = stats.rankdata(ids * (dense.max() + 1) + dense)
    return ranks


def overall(columns: Columns, cluster: IntArray, *, ranked: bool = False) -> Within:
    """The columns as one group."""
    held = np.isfinite(np.asarray(list(columns.values()))).all(axis=0)
    made, scales = {}, {}
    for name, values in columns.items():
        taken = scipy_stats().rankdata(values[held]) / max(1, held.sum()) if ranked else values[held]
        scales[name] = _scale(taken)
        made[name] = taken - taken.mean() if taken.size else taken
    return Within(made, scales, cluster[held], int(held.any()))


def correlation(data: Within, x: str, y: str, given: str | None = None) -> Interval | None:
    """Pearson's r of two columns, or partial on a third; None with under `FEWEST` clusters or no variation."""
    names = [x, y, *([given] if given else [])]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i:]]
    scaled = {name: data.columns[name] / data.scales[name] for name in names}
    sums = [by_cluster(scaled[a] * scaled[b], data.cluster) for a, b in pairs]
    if not sums[0].size or any(sums[i].sum() <= _TINY for i, (a, b) in enumerate(pairs) if a == b and a != given):
        return None
    return resampled(sums, _partial if given else _plain)


def by_cluster(values: FloatArray, cluster: IntArray) -> FloatArray:
    """Sums by cluster, shape (clusters,), at most 1,000."""
    _, ids = np.unique(cluster, return_inverse=True)
    count = int(ids.max()) + 1 if ids.size else 0
    if count > _MOST:
        ids = np.random.default_rng(0).integers(_MOST, size=count)[ids]
    return np.bincount(ids, values, minlength=min(count, _MOST)).astype(np.float64)


def resampled(sums: list[FloatArray], figure: Callable[..., FloatArray]) -> Interval | None:
    """A figure of sums over clusters, with its bootstrap interval (percentiles); None with too few clusters."""
    if sums[0].size < FEWEST:
        return None

    def of(*parts: FloatArray, axis: int = -1) -> FloatArray:
        return figure(*(part.sum(axis=axis) for part in parts))

    drawn = scipy_stats().bootstrap(
        tuple(sums), of, paired=True, vectorized=True, n_resamples=RESAMPLES, confidence_level=CONFIDENCE,
        method="percentile", batch=200, rng=np.random.default_rng(0),
    )  # fmt: skip
    low, high = drawn.confidence_interval
    value = float(of(*sums))
    if not np.isfinite([value, low, high]).all():
        return None
    return Interval(value, float(min(low, value)), float(max(high, value)))


def _plain(xx: FloatArray, xy: FloatArray, yy: FloatArray) -> FloatArray:
    scale = np.sqrt(np.maximum(xx * yy, 0.0))
    return np.clip(np.where(scale > _TINY, xy / np.maximum(scale, _TINY), 0.0), -1.0, 1.0)


def _partial(xx: FloatArray, xy: FloatArray, xz: FloatArray, yy: FloatArray, yz: FloatArray,
             zz: FloatArray) -> FloatArray:  # fmt: skip
    """r of x and y after a linear fit of each on z; without variation in z the plain one."""
    safe = np.maximum(zz, _TINY)
    left = (np.where(whole - each**2 / safe > _ROUNDING * whole, whole - each**2 / safe, 0.0)
            for whole, each in ((xx, xz), (yy, yz)))  # fmt: skip
    of_x, of_y = left
    return np.where(zz > _TINY, _plain(of_x, xy - xz * yz / safe, of_y), _plain(xx, xy, yy))
