"""reward_variance_explosion: told when the spread of the reward explodes or is gone for good."""

from __future__ import annotations

import numpy as np
import pytest
from faults import Run, healthy, noise, reward_std_to_zero, reward_variance_explosion
from harness import alerts_of, assert_quiet, assert_told_in_time, criticals, noise_alarms, told

NAME = "reward_variance_explosion"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("strength", "delay"), [(50.0, 8), (1.0, 8), (0.3, 12)])
def test_a_spread_that_stays_up(strength: float, delay: int, seed: int) -> None:
    """1,000, 20 or 6 times the standard deviation for good is told within 8-12 rows."""
    assert_told_in_time(NAME, reward_variance_explosion(strength, seed), delay)


@pytest.mark.parametrize("seed", range(4))
def test_twentyfold_is_critical(seed: int) -> None:
    """20 times the standard deviation for good is critical within 10 rows."""
    assert_told_in_time(NAME, reward_variance_explosion(1.0, seed), 10, "critical")


@pytest.mark.parametrize("onset", [8, 12, 18])
def test_explosion_within_the_first_20_rows(onset: int) -> None:
    """An explosion to 20 times that begins at row 8, 12 or 18 is told within 12 rows."""
    assert_told_in_time(NAME, reward_variance_explosion(1.0, 1, onset=onset, rows=80), 12)


@pytest.mark.parametrize("seed", range(3))
def test_a_dead_reward(seed: int) -> None:
    """All rewards equal and poor for good is told within 110 rows, as a warning."""
    alerts = assert_told_in_time(NAME, reward_std_to_zero(1.0, seed), 110)
    assert alerts[0].step >= 125
    assert not criticals(alerts)


def test_from_arrays_alone() -> None:
    """With only the rewards of each sample, the same explosion is told."""
    rewards = np.random.default_rng(0).normal(0.5, 0.2, (200, 64))
    rewards[100:] = 0.5 + 20.0 * (rewards[100:] - 0.5)
    assert_told_in_time(NAME, Run({}, {"rewards": rewards}, 100), 8)


@pytest.mark.parametrize("seed", range(10))
def test_verifier_rewards_are_silent(seed: int) -> None:
    """0/1 rewards whose success rate goes from 1 % to 60 %: the spread follows the mean."""
    rng = np.random.default_rng(seed)
    rate = np.concatenate([np.full(60, 0.01), np.linspace(0.01, 0.6, 200)])
    rewards = (rng.random((260, 128)) < rate[:, None]).astype(np.float64)
    assert_quiet(NAME, Run({}, {"rewards": rewards}))


@pytest.mark.parametrize("low", [-1.0, 0.0])
@pytest.mark.parametrize("seed", range(5))
def test_two_valued_rewards_on_another_scale_are_silent(seed: int, low: float) -> None:
    """-1/+1 and 0/10 are verifier rewards, too: a rate that leaves 1 % is learning, not an explosion."""
    rng = np.random.default_rng(seed)
    rate = np.concatenate([np.full(60, 0.01), np.linspace(0.01, 0.6, 200)])
    high = 1.0 if low else 10.0
    rewards = np.where(rng.random((260, 128)) < rate[:, None], high, low)
    assert_quiet(NAME, Run({}, {"rewards": rewards}))


def test_a_solved_task_is_silent() -> None:
    """All rewards are 1 for 200 rows because the task is solved: nothing is dead."""
    rng = np.random.default_rng(0)
    rate = np.minimum(1.0, np.linspace(0.2, 2.0, 400))
    rewards = (rng.random((400, 64)) < rate[:, None]).astype(np.float64)
    assert_quiet(NAME, Run({}, {"rewards": rewards}))


def test_zeros_that_come_and_go_are_silent() -> None:
    """A third of the rows, up to 25 on end, have no spread at all."""
    rng = np.random.default_rng(0)
    std = np.where(rng.random(600) < 0.36, 0.0, 0.3 * noise(rng, 600, 0.3))
    std[300:325] = 0.0
    assert_quiet(NAME, Run({"reward_std": std, "reward_mean": np.full(600, 0.4)}))


def test_zero_from_the_start_then_alive() -> None:
    """60 rows without spread, then .3: a start, not an explosion."""
    std = np.where(np.arange(200) < 60, 0.0, 0.3) * noise(np.random.default_rng(0), 200, 0.2)
    assert_quiet(NAME, Run({"reward_std": std}))


def test_a_reward_that_grows_with_its_spread_is_silent() -> None:
    """Classical returns rise by decades and their spread with them, over 500 rows."""
    rng = np.random.default_rng(0)
    mean = np.geomspace(10.0, 500.0, 500)
    std = 0.3 * mean * noise(rng, 500, 0.3)
    assert_quiet(NAME, Run({"reward_mean": mean, "reward_std": std}))


def test_stationary_noise() -> None:
    """Over 200 runs of 1,000 rows of 30 % noise: no critical, a warning in under 2 %."""
    with_critical, with_any = noise_alarms(NAME, "reward_std", 0.3)
    assert with_critical == 0
    assert with_any < 4


def test_message_and_evidence() -> None:
    """'Reward variance exploded Nx above baseline': N is of the variance, the square of the evidence's ratio."""
    alert = alerts_of(NAME, reward_variance_explosion())[0]
    assert alert.message.startswith("Reward variance exploded ")
    assert "x above baseline" in alert.message
    times = float(alert.message.split()[3].rstrip("x"))
    assert times == pytest.approx(alert.evidence["times"] ** 2, rel=0.01)
    assert alert.evidence["median_of_5"] / alert.evidence["baseline"] == pytest.approx(alert.evidence["times"])


def test_healthy_run_with_every_seed() -> None:
    """Thirty healthy runs of 300 rows raise nothing."""
    for seed in range(30):
        assert told(alerts_of(NAME, healthy(300, seed))) == []
