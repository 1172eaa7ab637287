"""How closely two quantities go together, with what moves both of them taken out."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, sqrt

import numpy as np

from rlwatch.observation import FloatArray

LEAST_ROWS = 20
"""Rows that it takes to call two series of rows correlated."""

LEAST_SAMPLES = 8
"""Samples that it takes to call two sample arrays correlated."""


def of_changes(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Pearson correlation of the changes from row to row, so that two trends do not pass for a relation.

    None where there are fewer than 20 rows, or no change in one of them.

    >>> of_changes([1.0, 2.0, 1.0, 2.0] * 6, [3.0, 5.0, 3.0, 5.0] * 6)
    1.0
    """
    if len(x) < LEAST_ROWS or len(x) != len(y):
        return None
    xx = xy = yy = 0.0
    for i in range(1, len(x)):
        a, b = x[i] - x[i - 1], y[i] - y[i - 1]
        xx += a * a
        xy += a * b
        yy += b * b
    scale = sqrt(xx) * sqrt(yy)
    if scale <= 0.0 or not isfinite(scale) or not isfinite(xy):
        return None
    return max(-1.0, min(1.0, xy / scale))


def of_samples(x: FloatArray, y: FloatArray, groups: FloatArray | None = None) -> float | None:
    """Pearson correlation over the samples of a step; with `groups`, within them: hard prompts are longer, too.

    Args:
        x: shape (n,); entries that are not finite are left out with their partners.
        y: shape (n,).
        groups: shape (n,), equal entries for samples of the same prompt.

    Returns:
        None where the shapes differ, there are fewer than 8 samples, or one of them does not vary.
    """
    if x.size != y.size or x.size < LEAST_SAMPLES or (groups is not None and groups.size != x.size):
        return None
    keep = np.isfinite(x) & np.isfinite(y)
    if not keep.all():
        if int(keep.sum()) < LEAST_SAMPLES:
            return None
        x, y = x[keep], y[keep]
        groups = groups[keep] if groups is not None else None
    with np.errstate(all="ignore"):
        a, b = _centred(x, groups), _centred(y, groups)
        scale = float(np.sqrt(a @ a)) * float(np.sqrt(b @ b))
        tiny = 1e-9 * x.size * float(np.abs(x).max()) * float(np.abs(y).max())
        r = float(a @ b) / scale if scale > tiny and isfinite(scale) else None
    return max(-1.0, min(1.0, r)) if r is not None and isfinite(r) else None


def _centred(x: FloatArray, groups: FloatArray | None) -> FloatArray:
    """The values minus their mean, or minus the mean of their group."""
    if groups is None:
        return np.asarray(x - x.mean(), dtype=np.float64)
    _, index = np.unique(groups, return_inverse=True)
    index = index.reshape(-1)
    means = np.bincount(index, weights=x) / np.bincount(index)
    if means.size == x.size:  # one sample a prompt: nothing is left within a group
        return np.asarray(x - x.mean(), dtype=np.float64)
    return np.asarray(x - means[index], dtype=np.float64)
