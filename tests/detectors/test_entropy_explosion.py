"""The policy turns into noise."""

from __future__ import annotations

import numpy as np
import pytest
from faults import Signals, around, correlated, entropy_explosion, learning
from rows import alerts_of, assert_nan_changes_nothing, assert_state_survives, false_alarms, first, told

NAME = "entropy_explosion"


@pytest.mark.parametrize("seed", range(3))
def test_an_explosion_with_a_fallen_reward_is_critical(seed: int) -> None:
    """Told within a few rows, with the words that name the factor and the levels."""
    alert = first(NAME, entropy_explosion(seed=seed), onset=100, delay=14, severity="critical")
    assert "x its baseline" in alert.message
    assert "the reward fell with it" in alert.message
    assert alert.evidence["times"] >= 4.0
    assert alert.evidence["reward_fallen"] is True


def test_a_recorded_collapse_in_the_first_rows() -> None:
    """A GRPO run, one row in five steps: .24 -> 2.8 -> 3.5 nats at the fourth row, reward .95 -> .18 -> .03."""
    run = {
        "entropy": np.array([0.18, 0.15, 0.24, 2.8, 3.46, 4.2, 6.0, 7.4, 7.9, 8.0]),
        "reward_mean": np.array([0.9, 0.75, 0.95, 0.175, 0.025, 0.0, 0.025, 0.0, 0.0, 0.0]),
    }
    assert [alert.step for alert in alerts_of(NAME, run)][:1] == [4]


def test_a_slow_rise_is_held_against_the_opening() -> None:
    """Doubling every 60 rows carries the recent level along; the run's opening stays."""
    run = entropy_explosion(strength=1 / 30, rows=600, fall=False)
    run["reward_mean"] = 0.5 + np.random.default_rng(1).normal(0.0, 0.03, 600)
    first(NAME, run, onset=100, delay=260, severity="warning")


@pytest.mark.parametrize("peak", [0.9, 1.5])
def test_a_bump_that_comes_back_is_silent(peak: float) -> None:
    """Recorded: .1 -> 1.3 nats for a few rows, the reward untouched."""
    run = learning()
    run["entropy"][150:154] = peak
    assert alerts_of(NAME, run) == []


def test_a_rise_that_the_reward_pays_for_is_silent() -> None:
    """Entropy to 8x over 300 rows while the reward climbs all the time."""
    rng = np.random.default_rng(0)
    run = {
        "entropy": 0.3 * np.exp(np.linspace(0.0, 2.1, 300)) * rng.lognormal(0.0, 0.05, 300),
        "reward_mean": np.linspace(0.1, 0.9, 300) + rng.normal(0.0, 0.02, 300),
    }
    assert alerts_of(NAME, run) == []


def unlearned(back: float = 0.67, left: float = 0.2) -> Signals:
    """Two actions: .69 -> .55 nats while the reward goes to 180; from row 100 on `back` nats and a share `left`."""
    rng = np.random.default_rng(0)
    t = np.arange(200)
    entropy = np.where(t < 100, 0.55 + 0.14 * np.exp(-t / 8.0), back) * rng.lognormal(0.0, 0.01, 200)
    reward = np.where(t < 100, 180.0 - 160.0 * np.exp(-t / 12.0), 180.0 * left) + rng.normal(0.0, 6.0, 200)
    return {"entropy": entropy, "reward_mean": reward}


def test_a_return_to_the_opening_with_the_reward_lost() -> None:
    """Recorded (PPO on CartPole, an entropy bonus far too large): no multiple of ln 2 can be reached."""
    alert = first(NAME, unlearned(), onset=100, delay=10, severity="warning")
    assert alert.message.startswith("Entropy is back from 0.5")
    assert "it began at 0.6" in alert.message
    alert = first(NAME, unlearned(), onset=100, delay=24, severity="critical")
    assert alert.message.endswith("what was learnt is being unlearnt")


def test_half_of_it_unlearnt_takes_longer() -> None:
    """Two thirds of the way back with two fifths of the reward lost: warns after 8 rows, critical after 16."""
    run = unlearned(back=0.64, left=0.58)
    first(NAME, run, onset=100, delay=16, severity="warning")
    first(NAME, run, onset=100, delay=30, severity="critical")


@pytest.mark.parametrize("run", [unlearned(left=1.0), unlearned(left=0.8), unlearned(back=0.57)])
def test_one_of_the_two_alone_is_no_unlearning(run: Signals) -> None:
    """Exploration that costs little, and a reward that is lost for another reason."""
    assert alerts_of(NAME, run) == []


def test_low_levels_are_no_explosion() -> None:
    """Ten times next to nothing is still next to nothing: .03 -> .3 nats on hard prompts."""
    run = learning()
    run["entropy"] = np.where(np.arange(300) < 150, 0.03, 0.3)
    run["reward_mean"] = np.where(np.arange(300) < 150, 0.8, 0.1)
    assert alerts_of(NAME, run) == []


def test_without_a_reward_it_takes_more_and_says_so() -> None:
    """No reward is logged: 5x and 2 nats over 5 rows warn, 10x and 4 nats are critical."""
    rng = np.random.default_rng(0)
    level = np.where(np.arange(200) < 100, 0.3, np.where(np.arange(200) < 130, 2.5, 6.0))
    alerts = alerts_of(NAME, {"entropy": level * rng.lognormal(0.0, 0.05, 200)})
    assert [alert.severity.value for alert in alerts] == ["warning", "critical"]
    assert 100 <= alerts[0].step <= 104
    assert alerts[0].evidence["reward_fallen"] == "unknown: no reward is logged"


@pytest.mark.parametrize("extra", [{}, {"action_std": np.full(300, 0.5)}])
def test_differential_entropy_is_not_judged(extra: Signals) -> None:
    """Continuous actions: entropy passes zero in health, and a Gaussian's may be above it all the time."""
    values = np.linspace(-4.0, 4.0, 300) if not extra else np.where(np.arange(300) < 100, 0.5, 8.0)
    run = {"entropy": values, "reward_mean": np.linspace(100.0, 0.0, 300), **extra}
    assert alerts_of(NAME, run) == []


@pytest.mark.parametrize("level", [0.05, 0.4, 1.5, 3.0])
@pytest.mark.parametrize("phi", [0.0, 0.8])
def test_noise_is_silent(level: float, phi: float) -> None:
    """Stationary and slowly rising entropy beside a noisy reward: 40 runs of 500 rows."""

    def make(rng: np.random.Generator) -> Signals:
        trend = 1.0 + rng.uniform(0.0, 1.2) * np.arange(500) / 500
        reward = 0.5 + 0.3 * np.arange(500) / 500 + correlated(rng, 500, 0.1, phi or 1e-9)
        return {"entropy": trend * around(level, rng, 500, 0.15, phi), "reward_mean": reward}

    assert false_alarms(NAME, make) == (0, 0)


def test_state_and_nan() -> None:
    """A checkpoint in mid-stream and rows of NaN change no alert."""
    assert_state_survives(NAME, entropy_explosion(rows=160))
    assert_nan_changes_nothing(NAME, entropy_explosion(rows=160))


def test_it_is_told_once() -> None:
    """A policy that stays noise is one critical, not one a row."""
    assert len(alerts_of(NAME, entropy_explosion())) <= 2, told(alerts_of(NAME, entropy_explosion()))
