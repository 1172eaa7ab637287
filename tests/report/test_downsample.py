"""Thinning keeps the extremes, the ends and the order."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rlwatch.report.band import band_of
from rlwatch.report.downsample import thin

VALUES = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=400)


@given(VALUES, st.integers(6, 60))
def test_extremes_and_ends_are_kept(values: list[float], points: int) -> None:
    """Whatever the signal: smallest, largest, first and last finite value stay, at their steps, and no more points."""
    steps, column = np.arange(len(values)) * 3, np.array(values, dtype=np.float64)
    found = thin(steps, column, points)
    finite = np.isfinite(column)
    assert len(found.steps) <= max(points, 0)
    assert np.array_equal(column[found.steps // 3], found.values)
    assert (np.diff(found.steps) > 0).all()
    if finite.any():
        kept = column[finite]
        assert found.values.min() == kept.min()
        assert found.values.max() == kept.max()
        assert (found.values[0], found.values[-1]) == (kept[0], kept[-1])
    else:
        assert not len(found.values)


@given(st.lists(st.floats(-1e6, 1e6), min_size=50, max_size=400), st.integers(6, 40))
def test_each_span_keeps_its_extremes(values: list[float], points: int) -> None:
    """No span loses its smallest or largest value, so that a zoom shows what is there."""
    column = np.array(values)
    found = thin(np.arange(len(column)), column, points)
    if found.spans:
        edges = np.linspace(0, len(column), found.spans + 1).astype(int)
        for first, last in pairwise(edges):
            inside = found.values[(found.steps >= first) & (found.steps < last)]
            assert {inside.min(), inside.max()} == {column[first:last].min(), column[first:last].max()}


def test_a_short_signal_is_left_as_it_is() -> None:
    """Nothing is left out where there is room."""
    found = thin(np.arange(5), np.array([1.0, np.nan, 3.0, 2.0, 5.0]), 10)
    assert found.spans == 0
    assert list(found.steps) == [0, 2, 3, 4]


def test_the_band_follows_the_rows_before_and_not_what_was_given_up() -> None:
    """A spell that was taken back widens no band; the same spell without a rollback does."""
    rng = np.random.default_rng(0)
    steps, values = np.arange(300), rng.normal(1.0, 0.1, 300)
    values[150:210] = 50.0
    healed = band_of(steps, values, [(149, 209)])
    kept = band_of(steps, values, [])
    assert healed.high.max() < 2.0
    assert not ((healed.steps > 149) & (healed.steps <= 209)).any()
    assert kept.high.max() > 10.0
    assert (healed.low <= healed.high).all()


def test_too_few_rows_have_no_band() -> None:
    """A median of a few rows would pretend to know."""
    assert not len(band_of(np.arange(15), np.ones(15), []).steps)
