"""The streaming statistics against direct computations, and their state through JSON."""

from __future__ import annotations

import doctest
import importlib
import json
import math
import pkgutil
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rlwatch.streaming as home
from rlwatch.observation import Observation
from rlwatch.streaming.baseline import HELD, NOTABLE, WINSOR, LogBaseline
from rlwatch.streaming.blocks import Blocks
from rlwatch.streaming.level import Level
from rlwatch.streaming.opening import Opening
from rlwatch.streaming.progress import Progress
from rlwatch.streaming.recent import Recent
from rlwatch.streaming.surge import Surge
from rlwatch.streaming.usual import Usual
from rlwatch.streaming.window import SortedWindow

MODULES = [module.name for module in pkgutil.iter_modules(home.__path__)]
FLOATS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80)
POSITIVE = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=150)

MAKERS: dict[str, Callable[[], Any]] = {
    "window": lambda: SortedWindow(7),
    "baseline": lambda: LogBaseline(20),
    "blocks": lambda: Blocks(2),
    "level": Level,
    "opening": lambda: Opening(4),
    "progress": Progress,
    "recent": lambda: Recent(5),
    "surge": lambda: Surge(window=20),
}


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str) -> None:
    """The examples in the docstrings are true."""
    assert doctest.testmod(importlib.import_module(f"rlwatch.streaming.{name}")).failed == 0


@pytest.mark.parametrize("name", MAKERS)
@given(values=POSITIVE, cut=st.integers(0, 150))
def test_state_round_trip(name: str, values: list[float], cut: int) -> None:
    """Cut anywhere and restored from strict JSON, what follows is identical, and so is the state."""
    whole, first, second = MAKERS[name](), MAKERS[name](), MAKERS[name]()
    expected = [whole.push(x) for x in values]
    got = [first.push(x) for x in values[:cut]]
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    got += [second.push(x) for x in values[cut:]]
    assert got == expected
    assert second.state_dict() == whole.state_dict()


@pytest.mark.parametrize("name", MAKERS)
def test_memory_is_bounded(name: str) -> None:
    """The state of 20,000 rows is no larger than that of 2,000, but for its digits."""
    one = MAKERS[name]()
    rng = np.random.default_rng(0)
    sizes = []
    for row, x in enumerate(rng.lognormal(0.0, 1.0, 20_000).tolist(), 1):
        one.push(x)
        if row in (2_000, 20_000):
            sizes.append(sum(1 for _ in json.dumps(one.state_dict()).split(",")))
    assert sizes[1] <= sizes[0] + 16


@given(FLOATS, st.integers(1, 12))
def test_window_quantiles(values: list[float], size: int) -> None:
    """Median, quantiles and the robust sigma are those of the last `size` values."""
    window = SortedWindow(size)
    for x in values:
        window.push(x)
    last = sorted(values[-size:])
    middle, sigma, count = window.middle_and_sigma()
    assert (middle, count, len(window)) == (last[len(last) // 2], len(last), len(last))
    assert (window.quantile(0.0), window.quantile(1.0)) == (last[0], last[-1])
    assert sigma >= 0.0


def test_window_sigma_is_that_of_a_gaussian() -> None:
    """The interquartile range over 1.349 is sigma, and outliers do not move it."""
    window = SortedWindow(2000)
    values = np.random.default_rng(0).normal(3.0, 0.7, 2000)
    values[::50] = 1e9
    for x in values.tolist():
        window.push(x)
    assert window.middle_and_sigma()[1] == pytest.approx(0.7, rel=0.1)


def baseline_of(values: Iterable[float], size: int = 100, floor: float = 0.2) -> LogBaseline:
    """A baseline that has taken in the logs of these values."""
    baseline = LogBaseline(size, floor)
    for x in values:
        baseline.push(math.log(x))
    return baseline


def test_baseline_is_not_taught_by_a_spike() -> None:
    """Two rows at 1,000 times the level move neither the level nor the spread much."""
    rng = np.random.default_rng(0)
    baseline = baseline_of((2.0 * rng.lognormal(0.0, 0.3, 60)).tolist())
    center, sigma = baseline.center, baseline.sigma
    baseline.push(math.log(2000.0))
    baseline.push(math.log(2000.0))
    assert baseline.center == pytest.approx(center, rel=0.1)
    assert baseline.sigma == pytest.approx(sigma, rel=0.2)


def test_baseline_has_a_way_out() -> None:
    """A new level that lasts becomes the baseline within a window and a bit."""
    baseline = baseline_of([1.0] * 50 + [5.0] * 60, size=50)
    assert baseline.center == pytest.approx(5.0, rel=0.05)


def test_baseline_sigma() -> None:
    """Floored, and widened by 1 + 4/n while young."""
    baseline = baseline_of([3.0] * 20, floor=0.2)
    assert baseline.center == pytest.approx(3.0)
    assert baseline.sigma == pytest.approx(0.2 * (1.0 + 4.0 / 20.0))


@given(st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=400))
def test_blocks_hold_the_means(values: list[float]) -> None:
    """Blocks are the means of consecutive stretches of equal length from the first row on."""
    blocks = Blocks(2)
    for x in values:
        blocks.push(x)
    for index, (mean, variance) in enumerate(blocks.blocks):
        part = values[index * blocks.length : (index + 1) * blocks.length]
        assert len(part) == blocks.length
        assert mean == pytest.approx(sum(part) / len(part), abs=1e-6)
        assert variance >= 0.0
        if blocks.length == blocks.start:
            assert variance == pytest.approx(float(np.var(part, ddof=1)), abs=1e-3)
    assert len(blocks.blocks) <= 16


@pytest.mark.parametrize("rows", [200, 2000, 50_000])
def test_blocks_see_a_trend_at_any_pace(rows: int) -> None:
    """A straight line is one trend of nearly all rows, whatever its length."""
    blocks = Blocks()
    for x in np.linspace(1.0, 0.0, rows).tolist():
        blocks.push(x)
    trend = blocks.trend(6)
    assert trend is not None
    assert trend.rows >= 0.7 * rows
    assert trend.change < -0.6
    assert trend.error < 0.1


def test_blocks_see_no_trend_where_there_is_none() -> None:
    """A zigzag, a constant, and too few blocks have no trend."""
    zigzag, level, few = Blocks(), Blocks(), Blocks()
    for row in range(400):
        zigzag.push(float(row // 8 % 2))
        level.push(1.0)
    for row in range(12):
        few.push(float(row))
    assert zigzag.trend(6) is None
    assert few.trend(6) is None
    trend = level.trend(6)
    assert trend is None or trend.change == 0.0


@given(FLOATS)
def test_recent_medians(values: list[float]) -> None:
    """The median of the last 3 or 5, None while there are fewer."""
    recent = Recent(5)
    for x in values:
        recent.push(x)
    for rows in (3, 5):
        expected = sorted(values[-rows:])[rows // 2] if len(values) >= rows else None
        assert recent.median_of(rows) == expected


def test_opening_never_moves_again() -> None:
    """The median of the first values only."""
    opening = Opening(5)
    for x in (1.0, 5.0, 2.0, 4.0, 3.0, *[100.0] * 50):
        opening.push(x)
    assert (opening.level, len(opening)) == (3.0, 5)


def test_level_is_not_moved_by_one_odd_row() -> None:
    """A single row at 1,000 times the level leaves the level where it was."""
    level = Level()
    for row in range(60):
        level.push(1000.0 if row == 50 else 1.0)
    assert level.times is not None
    assert level.times < 1.5


def test_level_follows_what_lasts() -> None:
    """A new level that lasts shows in `times`; None for a row without a value changes nothing."""
    level = Level()
    for row in range(60):
        level.push(2.0 if row < 20 else 6.0)
        level.push(None)
    assert level.times == pytest.approx(3.0, rel=0.05)
    below = Level()
    for _ in range(20):
        below.push(-1.0)
    assert below.times is None


def rewards(
    *parts: tuple[int, float, float], seed: int = 0, sigma: float = 0.03
) -> tuple[Progress, list[float]]:
    """Progress after straight lines of (rows, start, end) under noise, and its mark before the last of them."""
    rng = np.random.default_rng(seed)
    progress = Progress()
    mark = progress.mark()
    for part, (rows, start, end) in enumerate(parts):
        if part == len(parts) - 1:
            mark = progress.mark()
        for x in (np.linspace(start, end, rows) + rng.normal(0.0, sigma, rows)).tolist():
            progress.push(x)
    return progress, mark


@pytest.mark.parametrize("seed", range(20))
def test_progress_rising(seed: int) -> None:
    """A rise of .6 over 100 rows is rising, lately and since a mark before it."""
    up, mark = rewards((30, 0.2, 0.2), (100, 0.2, 0.8), seed=seed)
    assert up.rising_since(mark)
    assert up.rising_lately()


def test_progress_flat_is_seldom_rising() -> None:
    """Noise around a level counts as rising in under 10 % of 200 runs."""
    runs = [rewards((50, 0.4, 0.4), (50, 0.4, 0.4), seed=seed) for seed in range(200)]
    assert sum(run.rising_since(mark) for run, mark in runs) < 20
    assert sum(run.rising_lately() for run, _ in runs) < 20


def test_progress_after_the_rise_is_over() -> None:
    """Seventy flat rows after a rise, and a fall after it, are no rise."""
    for seed in range(20):
        falling, mark = rewards((100, 0.2, 0.8), (20, 0.8, 0.4), seed=seed)
        assert not falling.rising_lately()
        assert not falling.rising_since(mark)
    over = [rewards((100, 0.2, 0.8), (70, 0.8, 0.8), seed=seed)[0] for seed in range(20)]
    assert sum(progress.rising_lately() for progress in over) <= 2


def test_progress_ignores_missing_rows() -> None:
    """A row without a reward is no reward of 0, and a row that is followed twice counts once."""
    progress = Progress()
    mark = progress.mark()
    for row in range(50):
        progress.follow(Observation(row))
    assert progress.rows == 0
    assert not progress.rising_since(mark)
    assert not progress.rising_lately()
    obs = Observation(50)
    obs.signals["reward_mean"] = 1.0
    progress.follow(obs)
    progress.follow(obs)
    assert progress.rows == 1


def streams() -> st.SearchStrategy[list[float]]:
    """Positive signals: noise of some width with jumps, zeros and stretches of one value."""
    noise = st.lists(st.floats(0.5, 2.0), min_size=20, max_size=120)
    odd = st.lists(st.sampled_from([0.0, 1e-9, 0.2, 1.0, 1.0, 1.0, 5.0, 1e6]), max_size=30)
    return st.lists(st.one_of(noise, noise, odd), min_size=1, max_size=8).map(
        lambda parts: [x for part in parts for x in part]
    )


@given(streams(), st.sampled_from([0.05, 0.2, 0.6]), st.integers(20, 60))
def test_a_surge_that_puts_rows_off_reads_the_same(values: list[float], sigma: float, window: int) -> None:
    """Rows that wait change no reading and no state: against one that is restored before each row, where none waits."""
    fast, slow = Surge(window, sigma=sigma), Surge(window, sigma=sigma)
    for x in values:
        slow.load_state_dict(slow.state_dict())
        assert fast.push(x) == slow.push(x)
    assert fast.state_dict() == slow.state_dict()


def test_most_rows_of_a_healthy_signal_wait() -> None:
    """Noise of 20 %: nine rows in ten are ordinary for certain, and no more than 8 wait at once."""
    surge, waited = Surge(), 0
    for x in np.random.default_rng(0).lognormal(0.0, 0.2, 3000).tolist():
        waited += surge.quiet(x) or surge.push(x) is not None
        assert len(surge.gate.held) < HELD
    assert waited > 0.8 * 3000


@given(st.lists(st.floats(-3.0, 3.0), min_size=64, max_size=64), st.lists(st.floats(-9.0, 9.0), max_size=HELD))
def test_bounds_hold_whatever_comes(before: list[float], after: list[float]) -> None:
    """For the next 8 values the median stays between the bounds, and a value within is ordinary and not clipped."""
    baseline = LogBaseline(64, 0.2)
    for x in before:
        baseline.push(x)
    bounds = baseline.bounds()
    for x in after:
        assert bounds.least <= baseline.middle <= bounds.most
        if bounds.low < x < bounds.high:
            assert x < baseline.middle + NOTABLE * baseline.sigma
            assert x > baseline.middle - WINSOR * baseline.sigma
        baseline.push(x)


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=20), st.lists(st.floats(1e-9, 1e9), max_size=8))
def test_the_usual_moves_no_further_than_its_reach(before: list[float], after: list[float]) -> None:
    """Whatever comes in 8 rows, the middle stays within the reach that was told before."""
    usual = Usual(span=50, floor=0.06)
    for x in (before * 60)[:60]:
        usual.push(x)
    middle, reach = usual.middle, usual.reach(8)
    for x in after:
        usual.push(x)
    assert abs(usual.middle - middle) <= reach


def test_surge_ignores_a_row_and_sees_what_lasts() -> None:
    """One row at 100 times shows in no level; the third row of it does."""
    surge = Surge()
    for _ in range(30):
        surge.push(1.0)
    first = surge.push(100.0)
    assert first is None or first.level == pytest.approx(1.0)
    surge.push(100.0)
    third = surge.push(100.0)
    assert third is not None
    assert third.level == pytest.approx(100.0)
    assert third.times == pytest.approx(100.0, rel=0.05)
    assert third.new
    assert third.sigmas > 10.0


def test_surge_keeps_zeros_out_of_the_baseline() -> None:
    """Exact zeros are no level to be compared with, and alone they are no baseline."""
    surge = Surge()
    for row in range(60):
        surge.push(0.0 if row % 2 else 1.0)
    assert surge.baseline.center == pytest.approx(1.0)
    only = Surge()
    assert [only.push(0.0) for _ in range(50)] == [None] * 50
    assert len(only.baseline) == 0


def test_surge_counts_rows_of_nothing() -> None:
    """Zeros count once 20 values made a level; a value that comes back starts over."""
    surge = Surge()
    for _ in range(10):
        surge.push(2.0)
    surge.push(0.0)
    assert surge.gone == 0
    for _ in range(20):
        surge.push(2.0)
    counts = []
    for _ in range(5):
        surge.push(0.0)
        counts.append(surge.gone)
    assert counts == [1, 2, 3, 4, 5]
    assert surge.gone_from == pytest.approx(2.0)
    surge.push(1.5)
    assert surge.gone == 0


def test_surge_remembers_the_level_that_went() -> None:
    """A baseline that sinks while the signal is gone does not end the count."""
    surge = Surge(window=20)
    for _ in range(30):
        surge.push(2.0)
    for _ in range(60):
        surge.push(1e-6)
    assert surge.gone == 60
    assert surge.gone_from == pytest.approx(2.0)
