"""The band in which a signal was at home: where the rows just before would let one expect it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlwatch.observation import FloatArray
from rlwatch.report.data import IntArray

ROWS = 100
"""Rows before a row that its band is made of."""

FEWEST = 20
SIGMAS = 3.0
_MAD = 1.4826  # of Gaussian values: standard deviation over median absolute deviation


class Band(NamedTuple):
    """Lower and upper edge at some steps, shape (m,)."""

    steps: IntArray
    low: FloatArray
    high: FloatArray


def band_of(
    steps: IntArray, values: FloatArray, given_up: Sequence[tuple[int, int]], *, log: bool = False, knots: int = 150
) -> Band:
    """Median +- 3 robust sigma (1.4826 x median absolute deviation) of the 100 rows before, at `knots` places.

    A reader's yardstick, not the limit of any detector: those have rules of their own. Rows that a rollback took back
    are left out, as they are no part of the run that went on.

    Args:
        steps, values: shape (n,), steps ascending; values that are not finite are passed over.
        given_up: (first, last] steps that were taken back.
        log: whether sigma is taken of the logarithm; all values must be above 0 then.
    """
    good = np.isfinite(values)
    for first, last in given_up:
        good &= ~((steps > first) & (steps <= last))
    at, seen = steps[good], values[good]
    if len(seen) < FEWEST + 1:
        nothing = np.zeros(0)
        return Band(np.zeros(0, dtype=np.int64), nothing, nothing)
    seen = np.log(seen) if log else seen
    # Rows with less than ROWS before them look at those that there are.
    padded = np.concatenate((np.full(ROWS, np.nan), seen))
    windows = np.lib.stride_tricks.sliding_window_view(padded, ROWS)
    rows = np.unique(np.linspace(FEWEST, len(seen) - 1, knots).astype(np.int64))
    chosen = windows[rows]
    with np.errstate(over="ignore", invalid="ignore"):
        middle = np.nanmedian(chosen, axis=1)
        away = SIGMAS * _MAD * np.nanmedian(np.abs(chosen - middle[:, None]), axis=1)
        low, high = middle - away, middle + away
        low, high = (np.exp(low), np.exp(high)) if log else (low, high)
    sound = np.isfinite(low) & np.isfinite(high)  # values near the largest there are have none
    return Band(at[rows][sound], low[sound], high[sound])
