"""How much of its best a reward has kept, and the other statistics of part of the catalogue."""

from __future__ import annotations

import doctest
import importlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlwatch.streaming import correlation
from rlwatch.streaming.looks import Looks
from rlwatch.streaming.pace import Pace
from rlwatch.streaming.shift import Shift
from rlwatch.streaming.standing import Standing
from rlwatch.streaming.stuck import Stuck
from rlwatch.streaming.usual import Usual


def standing(values: Any) -> Standing:
    """After these rewards."""
    one = Standing()
    for x in values:
        one.push(float(x))
    return one


@pytest.mark.parametrize("name", ["correlation", "pace", "shift", "standing", "stuck", "usual", "looks", "compare"])
def test_the_examples_in_the_docstrings_hold(name: str) -> None:
    """Each doctest of the module."""
    assert doctest.testmod(importlib.import_module(f"rlwatch.streaming.{name}")).failed == 0


@pytest.mark.parametrize("phi", [0.0, 0.5])
@pytest.mark.parametrize("slope", [0.0, 0.002])
def test_noise_is_that_of_a_row_and_not_of_the_trend(phi: float, slope: float) -> None:
    """The standard deviation and the correlation of AR(1) rows are found, beside a climb, too."""
    rng = np.random.default_rng(0)
    x = np.zeros(2000)
    for row in range(1, 2000):
        x[row] = phi * x[row - 1] + math.sqrt(1.0 - phi * phi) * rng.normal()
    sigma, kinship = standing(5.0 + 0.1 * x + slope * np.arange(2000)).noise()
    assert sigma == pytest.approx(0.1, rel=0.25)
    assert kinship == pytest.approx((1.0 + phi) / (1.0 - phi), rel=0.5)


def test_a_fall_in_numbers() -> None:
    """From .9 to .1: a ninth is left, by many standard errors; before the fall nothing has fallen."""
    rng = np.random.default_rng(0)
    calm = 0.9 + rng.normal(0.0, 0.02, 60)
    assert not standing(calm).fallen()
    now = standing([*calm, *[0.1] * 5]).fall(5)
    assert now is not None
    assert now.left == pytest.approx(1 / 9, abs=0.03)
    assert now.sigmas > 10.0
    assert standing([*calm, *[0.1] * 5]).fallen()


def test_rewards_below_zero_have_a_range_and_no_ratio() -> None:
    """From -1 to 1 and back to 0: half of the range is left."""
    values = [*np.linspace(-1.0, 1.0, 60), *[1.0] * 30, *[0.0] * 12]
    one = standing(values)
    assert one.signed
    fall = one.fall(8)
    assert fall is not None
    assert fall.left == pytest.approx(0.5, abs=0.1)


def test_rising() -> None:
    """A climb is seen, noise and a fall are not."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0.0, 0.05, 100)
    assert standing(0.01 * np.arange(100) + noise).rising()
    assert not standing(0.5 + noise).rising()
    assert not standing(1.0 - 0.01 * np.arange(100) + noise).rising()


def test_stuck_survives_a_rare_row_that_moves() -> None:
    """One row in twenty that differs takes back five rows and does not end the stretch."""
    stuck = Stuck()
    for row in range(100):
        moved = row % 20 == 19
        stuck.push(0.5 if moved else 0.0, 0.01, still=not moved)
    assert stuck.rows == 95 - 5 * 5


def test_correlation_of_samples() -> None:
    """Within groups the prompts' own difference is taken out; what cannot be said is None."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10.0), 10)
    hard = rng.normal(0.0, 3.0, 10)[groups.astype(int)]
    own = rng.normal(0.0, 1.0, 100)
    x, y = hard + own, -hard + own
    assert correlation.of_samples(x, y, groups) == pytest.approx(1.0)
    assert (correlation.of_samples(x, y) or 0.0) < 0.0
    assert correlation.of_samples(x, np.ones(100)) is None
    assert correlation.of_samples(x[:4], y[:4]) is None
    assert correlation.of_samples(np.where(groups == 0, np.nan, x), y, groups) == pytest.approx(1.0)


finite = st.lists(
    st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, 1.0, -1.0, 5e-324, 1.7e308])),
    max_size=80,
)


@given(finite)
def test_any_finite_input_keeps_the_state_strict(values: list[float]) -> None:
    """Whatever comes: no exception, strict JSON, and a copy that goes on identically."""
    makers = {"standing": Standing, "usual": Usual, "pace": Pace, "shift": Shift}
    for make in makers.values():
        one, other = make(), make()
        clip = 1e150 if make is Shift else 1.7e308
        for x in values:
            one.push(max(-clip, min(clip, x)))
        other.load_state_dict(json.loads(json.dumps(one.state_dict(), allow_nan=False)))
        assert other.state_dict() == one.state_dict()
        if isinstance(one, Standing):
            assert [one.fall(k) for k in (2, 3, 8, 32)] == [other.fall(k) for k in (2, 3, 8, 32)]
            assert one.rising() == other.rising()


def test_looks_pool_small_batches() -> None:
    """Batches of 4 are pooled until 128 samples are there."""
    looks = Looks()
    rng = np.random.default_rng(0)
    seen = [looks.push(rng.normal(size=4)) for _ in range(40)]
    due = [row for row, look in enumerate(seen) if look is not None]
    assert due == [31]
    assert seen[31].samples == 128  # type: ignore[union-attr]
