"""advantage_spike: told when the advantages leave their scale or vanish."""

from __future__ import annotations

import numpy as np
import pytest
from faults import Run, advantage_spike, advantage_to_zero, healthy, noise
from harness import alerts_of, assert_quiet, assert_told_in_time, criticals, noise_alarms, told

NAME = "advantage_spike"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("strength", "delay"), [(50.0, 8), (1.0, 8), (0.3, 12)])
def test_a_spread_that_stays_up(strength: float, delay: int, seed: int) -> None:
    """1,000, 20 or 6 times the level for good is told within 8-12 rows."""
    assert_told_in_time(NAME, advantage_spike(strength, seed), delay)


@pytest.mark.parametrize("seed", range(4))
def test_twentyfold_is_critical(seed: int) -> None:
    """20 times the level for good is critical within 10 rows."""
    assert_told_in_time(NAME, advantage_spike(1.0, seed), 10, "critical")


@pytest.mark.parametrize("onset", [8, 12, 18])
def test_explosion_within_the_first_20_rows(onset: int) -> None:
    """An explosion to 20 times that begins at row 8, 12 or 18 is told within 12 rows."""
    assert_told_in_time(NAME, advantage_spike(1.0, 1, onset=onset, rows=80), 12)


@pytest.mark.parametrize("seed", range(3))
def test_advantages_that_vanish(seed: int) -> None:
    """Exactly 0 for good is told within 110 rows, and later than the 25 rows on end that healthy runs have."""
    alerts = assert_told_in_time(NAME, advantage_to_zero(1.0, seed), 110)
    assert alerts[0].step >= 125
    assert not criticals(alerts)


def test_from_arrays_alone() -> None:
    """With only the advantages of each sample, the same explosion is told."""
    run = healthy(200, 1, samples=64).only("advantages")
    run.samples["advantages"][100:] *= 20.0
    assert_told_in_time(NAME, Run({}, run.samples, 100), 8)


def test_from_extremes_alone() -> None:
    """Where only the largest and the smallest are logged (verl), half their distance stands in."""
    rng = np.random.default_rng(0)
    high, low = 2.0 * noise(rng, 200, 0.1), -2.0 * noise(rng, 200, 0.1)
    assert_quiet(NAME, Run({"advantage_max": high, "advantage_min": low}))
    high[120:], low[120:] = high[120:] * 30, low[120:] * 30
    assert_told_in_time(NAME, Run({"advantage_max": high, "advantage_min": low}, onset=120), 8)


def test_one_extreme_alone_stands_in() -> None:
    """With the largest advantage and no smallest, advantages being centred, its size is the spread."""
    rng = np.random.default_rng(0)
    high = 2.0 * noise(rng, 200, 0.1)
    assert_quiet(NAME, Run({"advantage_max": high}))
    high[120:] = high[120:] * 30
    assert_told_in_time(NAME, Run({"advantage_max": high}, onset=120), 8)


def test_normalised_advantages_are_silent() -> None:
    """Whitened advantages have a standard deviation of 1 to the last digits, 0 where all rewards tie."""
    rng = np.random.default_rng(0)
    values = np.where(rng.random(500) < 0.3, 0.0, 1.0 + 1e-6 * rng.normal(size=500))
    assert_quiet(NAME, Run({"advantage_std": values}))


def test_shrinking_advantages_are_silent() -> None:
    """As a task is solved the spread falls to a tenth, and comes back threefold on harder prompts."""
    rng = np.random.default_rng(0)
    values = np.concatenate([np.geomspace(1.0, 0.1, 300), np.geomspace(0.1, 0.3, 200)]) * noise(rng, 500, 0.15)
    assert_quiet(NAME, Run({"advantage_std": values}))


def test_stationary_noise() -> None:
    """Over 200 runs of 1,000 rows of 30 % noise: no critical, a warning in under 2 %."""
    with_critical, with_any = noise_alarms(NAME, "advantage_std", 0.8)
    assert with_critical == 0
    assert with_any < 4


def test_message_and_evidence() -> None:
    """'Advantage std = X, Nx above rolling baseline', and X is the row's own value."""
    run = advantage_spike()
    alert = alerts_of(NAME, run)[0]
    value, times = alert.message.removeprefix("Advantage std = ").split(", ")
    assert alert.message.startswith("Advantage std = ")
    assert times.endswith("x above rolling baseline")
    assert float(value) == pytest.approx(run.signals["advantage_std"][alert.step], rel=0.01)
    assert float(times.split("x")[0]) >= 3.0
    assert alert.evidence["baseline"] == pytest.approx(0.8, rel=0.2)


def test_healthy_run_with_every_seed() -> None:
    """Thirty healthy runs of 300 rows raise nothing."""
    for seed in range(30):
        assert told(alerts_of(NAME, healthy(300, seed))) == []
