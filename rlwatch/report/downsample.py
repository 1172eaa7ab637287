"""Fewer points, the same picture: of each span of rows its smallest and its largest value stay."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from rlwatch.observation import FloatArray
from rlwatch.report.data import IntArray


class Thinned(NamedTuple):
    """What is drawn: `steps` and `values` of shape (m,); `spans` they stand for, 0 where nothing was left out."""

    steps: IntArray
    values: FloatArray
    spans: int


def thin(steps: IntArray, values: FloatArray, points: int) -> Thinned:
    """At most `points` of a signal's finite values; each stays at its own step.

    The rows are cut into points / 2 spans of equal length, of which the smallest and the largest value are kept, and
    of the whole the first and the last. So no extreme is lost, at any zoom that shows a span or more.

    Args:
        steps, values: shape (n,); values that are not finite are passed over.
        points: 6 or more.

    >>> import numpy as np
    >>> spike = np.zeros(1000); spike[700] = 9.0
    >>> thinned = thin(np.arange(1000), spike, 10)
    >>> thinned.steps[thinned.values.argmax()], thinned.spans, len(thinned.steps) <= 10
    (np.int64(700), 4, True)
    """
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    n = len(values)
    if n <= points:
        return Thinned(steps, values, 0)
    spans = (points - 2) // 2
    edges = np.linspace(0, n, spans + 1).astype(np.int64)
    keep = {0, n - 1}
    for first, last in pairwise(map(int, edges)):
        part = values[first:last]
        keep.add(first + int(part.argmin()))
        keep.add(first + int(part.argmax()))
    rows = np.array(sorted(keep))
    return Thinned(steps[rows], values[rows], spans)
