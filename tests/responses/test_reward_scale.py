"""The bound of rewards: what the healthy ones were within, and only where those since have left it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlwatch.observation import Observation
from rlwatch.responses.reward_scale import ROWS, RewardScale, Well


def observed(row: int, rewards: Any = None, parts: Any = None, **signals: float) -> Observation:
    """A row with these rewards."""
    obs = Observation(row, row)
    obs.signals.update(signals)
    if rewards is not None:
        obs.samples["rewards"] = np.asarray(rewards, dtype=np.float64)
    if parts is not None:
        obs.samples["reward_components"] = {name: np.asarray(part, dtype=np.float64) for name, part in parts.items()}
    return obs


def until(last: int) -> Well:
    """The rows up to this one were without trouble."""
    return lambda row: row <= last


def scale_of(healthy: float, since: float, **kind: Any) -> RewardScale:
    """20 rows of 16 rewards spread evenly up to `healthy`, then 5 up to `since`."""
    scale = RewardScale()
    for row in range(25):
        scale.push(observed(row, np.linspace(0.5, 1.0, 16) * (healthy if row < 20 else since), **kind))
    return scale


@pytest.mark.parametrize("size", [1e-6, 1.0, 60.0, 1e9])
def test_the_bound_has_the_scale_of_the_run(size: float) -> None:
    """Whatever that is: it leaves 99 % of the healthy rewards as they are."""
    bound = scale_of(size, 30 * size).bound(until(19))
    assert bound is not None
    assert bound.limit == pytest.approx(size, rel=0.05)
    assert bound.limit <= size
    assert bound.reached == pytest.approx(30 * size, rel=0.05)


@pytest.mark.parametrize("since", [0.2, 1.0, 1.15])
def test_rewards_that_stayed_in_their_range_have_none(since: float) -> None:
    """Clipping would change nothing."""
    assert scale_of(1.0, since).bound(until(19)) is None


def test_negative_rewards_count_by_their_size() -> None:
    """The bound is of the absolute reward."""
    bound = scale_of(-1.0, -9.0).bound(until(19))
    assert bound is not None
    assert 0.9 < bound.limit <= 1.0


@pytest.mark.parametrize(("healthy", "since", "upward"), [(1.0, 9.0, True), (-1.0, -9.0, False), (-1.0, 9.0, True)])
def test_the_side_on_which_they_left(healthy: float, since: float, upward: bool) -> None:
    """Paid more, or punished more."""
    bound = scale_of(healthy, since).bound(until(19))
    assert bound is not None
    assert bound.upward is upward


def test_a_row_beyond_the_bound() -> None:
    """A mean over the last episodes is, until those from before have left it."""
    scale = scale_of(1.0, 30.0)
    bound = scale.bound(until(19))
    assert bound is not None
    assert scale.beyond(observed(26, reward_mean=20.0, reward_std=5.0), bound)
    assert not scale.beyond(observed(27, reward_mean=0.7, reward_std=0.2), bound)
    assert not scale.beyond(observed(28), bound)


def test_one_outlier_in_a_batch_is_enough() -> None:
    """A single bad sample of 16 that is a hundred times the usual."""
    scale = scale_of(1.0, 1.0)
    scale.push(observed(25, [1.0] * 15 + [100.0]))
    assert scale.bound(until(19)) is not None


def test_what_is_not_finite_is_left_out() -> None:
    """NaN and infinities, in healthy rows and since; a row of nothing else says nothing."""
    scale = scale_of(1.0, 5.0)
    scale.push(observed(25, [np.nan, np.inf, -np.inf]))
    scale.push(observed(10, [np.nan] * 4 + [1.0]))
    bound = scale.bound(until(19))
    assert bound is not None
    assert bound.reached < 5.1


def test_too_few_rewards_have_no_scale() -> None:
    """Nor has a run without rewards, or one whose rewards were all 0."""
    assert RewardScale().bound(until(5)) is None
    assert scale_of(1.0, 9.0).bound(until(0)) is None
    assert scale_of(1.0, 9.0).bound(until(24)) is None
    assert scale_of(0.0, 9.0).bound(until(19)) is None


def test_mean_and_deviation_stand_in() -> None:
    """For a loop that logs no samples."""
    scale = RewardScale()
    for row in range(30):
        scale.push(observed(row, reward_mean=1.0, reward_std=0.5 if row < 25 else 50.0))
    bound = scale.bound(until(24))
    assert bound is not None
    assert bound.limit == pytest.approx(2.0)


def test_rewards_of_functions() -> None:
    """Where it is these that are clipped."""
    scale = RewardScale()
    scale.of_functions = True
    for row in range(25):
        parts = {"a": [1.0] * 8, "b": [0.5 if row < 20 else 9.0] * 8}
        scale.push(observed(row, [1.5] * 8, parts))
    bound = scale.bound(until(19))
    assert bound is not None
    assert bound.limit == pytest.approx(1.0)


def test_what_was_given_up_is_forgotten() -> None:
    """Its rewards count neither as healthy ones nor as those since."""
    scale = scale_of(1.0, 50.0)
    scale.forget(until(19))
    assert scale.bound(until(19)) is None
    for row in range(25, 40):
        scale.push(observed(row, np.linspace(0.5, 1.0, 16)))
    scale.push(observed(40, [7.0] * 16))
    bound = scale.bound(until(39))
    assert bound is not None
    assert (bound.limit, bound.reached) == (pytest.approx(1.0, rel=0.05), 7.0)


def test_memory_is_bounded() -> None:
    """Of a row a few hundred values, evenly chosen, and of the run some rows."""
    scale = RewardScale()
    for row in range(2 * ROWS):
        scale.push(observed(row, np.arange(10_000.0)))
    assert len(scale._rows) == ROWS
    assert max(values.size for _, values in scale._rows) <= 256
