"""Streak, Means and Zigzag: what lasts, where it is going, and what swings."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlwatch.streaming.means import Means
from rlwatch.streaming.streak import Streak
from rlwatch.streaming.zigzag import Zigzag


def test_a_streak_counts_net_rows() -> None:
    """Trouble on two rows of three is counted, on every second it is not, and only a row in trouble says so."""
    often, seldom = Streak(10), Streak(10)
    assert any(often.push(row % 3 != 0) for row in range(40))
    assert not any(seldom.push(row % 2 == 0) for row in range(400))
    often.rows = 10
    assert often.push(True)
    assert not often.push(False)


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 12))
def test_a_streak_stays_within_its_limit(rows: list[bool], limit: int) -> None:
    """The count never leaves 0 to `limit`, and says lasting only at the limit."""
    streak = Streak(limit)
    for bad in rows:
        assert streak.push(bad) == (bad and streak.rows == limit)
        assert 0 <= streak.rows <= limit


def test_means_start_as_plain_means() -> None:
    """The first rows weigh the same; then the fast one follows a step within 10 rows, the slow one within 33."""
    means = Means()
    for x in (1.0, 3.0, 5.0):
        means.push(x)
    assert (means.fast, means.slow) == (pytest.approx(3.0), pytest.approx(3.0))
    for _ in range(100):
        means.push(0.0)
    for _ in range(10):
        means.push(1.0)
    assert means.fast > 0.6
    assert means.slow < 0.3


@pytest.mark.parametrize("period", [2, 3, 5, 9])
def test_means_see_through_a_saw_tooth(period: int) -> None:
    """A signal that is 0 on the first of every n rows and rises to 1 has a mean of a half."""
    means = Means()
    for row in range(400):
        means.push(row % period / (period - 1))
    assert means.fast == pytest.approx(0.5, abs=0.2)
    assert means.slow == pytest.approx(0.5, abs=0.1)


def test_zigzag_finds_swings_and_not_noise() -> None:
    """A wave of twice the swing turns every half period; noise below the swing and a straight rise never do."""
    rng = np.random.default_rng(0)
    wave, noise, rise = (Zigzag(1.0, 6, 120) for _ in range(3))
    assert any(wave.push(float(np.sin(row / 5.0))) for row in range(120))
    assert not any(noise.push(float(x)) for x in rng.uniform(-0.5, 0.5, 2000))
    assert not any(rise.push(row / 10.0) for row in range(2000))


def test_slow_swings_are_left_alone() -> None:
    """The same wave, ten times as slow, has too few turns within the span."""
    zigzag = Zigzag(1.0, 6, 120)
    assert not any(zigzag.push(float(np.sin(row / 50.0))) for row in range(3000))


@pytest.mark.parametrize("make", [lambda: Streak(5), Means, lambda: Zigzag(0.5, 3, 30)])
def test_state_round_trip(make: object) -> None:
    """Saved as JSON in mid-stream and restored, each goes on as it would have."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=80).tolist()
    one = make()  # type: ignore[operator]
    for x in values[:37]:
        one.push(x > 0.0 if isinstance(one, Streak) else x)
    other = make()  # type: ignore[operator]
    other.load_state_dict(json.loads(json.dumps(one.state_dict(), allow_nan=False)))
    for x in values[37:]:
        y = x > 0.0 if isinstance(one, Streak) else x
        assert one.push(y) == other.push(y)
    assert one.state_dict() == other.state_dict()
