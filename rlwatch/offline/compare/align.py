"""Runs with different log intervals and lengths on one grid of steps, and what was done to bring them there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlwatch.observation import FloatArray
from rlwatch.offline.compare.series import Column

FEWEST = 10
"""Common rows below which nothing is said of a signal."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """Several columns on one grid.

    Attributes:
        steps: shape (n,); a point stands for the steps from the point before it (exclusive) to its own.
        values: shape (runs, n), finite; the mean of what a run logged within a point.
        averaged: whether any point holds more than one row of a run.
        why_not: why there is no grid, with the other fields empty; "" else.
    """

    steps: FloatArray
    values: FloatArray
    averaged: bool = False
    why_not: str = ""


def align(columns: Sequence[Column]) -> Aligned:
    """Brings columns to the steps of the one that is logged most rarely, over the range that all of them cover.

    A trainer that logs every ten steps logs the mean of ten: so of a finer log the mean over the same steps is taken.
    Nothing is interpolated: a point that a run has no row for is left out.
    """
    finite = [column.finite() for column in columns]
    if min(column.steps.size for column in finite) < 2:
        return _none("one of the runs has fewer than two finite values of it")
    strides = [float(np.median(np.diff(column.steps))) for column in finite]
    starts = [float(column.steps[0]) - stride for column, stride in zip(finite, strides, strict=True)]
    low, high = max(starts), min(float(column.steps[-1]) for column in finite)
    if low >= high:
        return _none("the runs have no steps in common (--by-row aligns them row by row)")
    coarsest = finite[int(np.argmax(strides))].steps
    grid = coarsest[(coarsest > low) & (coarsest <= high)]
    means, most = zip(*(_means(column, grid, low) for column in finite), strict=True)
    values = np.vstack(means) if grid.size else np.empty((len(finite), 0))
    there = np.isfinite(values).all(axis=0)
    grid, values = grid[there], values[:, there]
    if grid.size < FEWEST:
        return _none(f"the runs have {grid.size} rows in common, fewer than {FEWEST}")
    return Aligned(grid, values, averaged=max(most) > 1)


def _means(column: Column, grid: FloatArray, low: float) -> tuple[FloatArray, int]:
    """Mean of the values in each (previous point, point], NaN where there is none; and the most rows in one."""
    inside = (column.steps > low) & (column.steps <= (grid[-1] if grid.size else low))
    place = np.searchsorted(grid, column.steps[inside])
    counts = np.bincount(place, minlength=grid.size)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        sums = np.bincount(place, weights=column.values[inside], minlength=grid.size)
        return sums / counts, int(counts.max(initial=0))


def _none(reason: str) -> Aligned:
    return Aligned(np.empty(0), np.empty((0, 0)), why_not=reason)
