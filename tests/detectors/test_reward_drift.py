"""reward_drift: told when the reward falls for long, or rises while a second signal says that it is not learning."""

from __future__ import annotations

import numpy as np
import pytest
from faults import Run, healthy, noise, reward_drift_down, reward_up_gold_down, reward_up_with_length
from harness import alerts_of, assert_quiet, assert_told_in_time, criticals, noise_alarms, told

NAME = "reward_drift"


def ramp(rows: int, start: float, end: float, sigma: float, seed: int, flat: int = 0) -> np.ndarray:
    """`flat` rows at `start`, then a straight line to `end`, under noise."""
    line = np.concatenate([np.full(flat, start), np.linspace(start, end, rows - flat)])
    return line + np.random.default_rng(seed).normal(0.0, sigma, rows)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("strength", "delay"), [(2.0, 200), (1.0, 300), (0.6, 400)])
def test_falling_reward(strength: float, delay: int, seed: int) -> None:
    """A fall of 1.2, .6 or .36 over 300 rows, noise .04, is told as a warning; before it has ended at strength 1."""
    alerts = assert_told_in_time(NAME, reward_drift_down(strength, seed), delay)
    assert not criticals(alerts)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sigma", [0.0, 0.05, 0.15, 0.3])
def test_falling_under_noise(sigma: float, seed: int) -> None:
    """A fall of 1 over 600 rows is told by its end, whatever the noise of a row: 0, .05, .15 or .3."""
    run = Run({"reward_mean": ramp(600, 1.0, 0.0, sigma, seed)})
    assert alerts_of(NAME, run)


@pytest.mark.parametrize("rows", [60, 200, 3000])
def test_a_fall_at_any_pace(rows: int) -> None:
    """From .8 to .2 in 60, 200 or 3,000 rows after 100 flat ones: told by the end or within 20 rows of it."""
    values = np.concatenate([ramp(100 + rows, 0.8, 0.2, 0.03, 1, flat=100), 0.2 + np.zeros(20)])
    alerts = alerts_of(NAME, Run({"reward_mean": values}))
    assert alerts
    assert alerts[0].step >= 100
    assert "down" in alerts[0].message


def test_negative_rewards_fall_too() -> None:
    """A reward that goes from -1 to -3 (a length penalty) drifts down."""
    assert alerts_of(NAME, Run({"reward_mean": ramp(300, -1.0, -3.0, 0.1, 0)}))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("strength", [1.0, 0.5, 0.0])
def test_rise_that_gold_does_not_follow(strength: float, seed: int) -> None:
    """The reward rises, the gold score falls or stays flat: told, and the message names the gold score."""
    alerts = assert_told_in_time(NAME, reward_up_gold_down(strength, seed), 300)
    assert "drifting up" in alerts[0].message
    assert "gold" in alerts[0].message


@pytest.mark.parametrize("seed", range(4))
def test_rise_with_growing_responses(seed: int) -> None:
    """The reward rises while responses grow threefold: told, and the message says so."""
    run = reward_up_with_length(1.0, seed).only("reward_mean", "response_length_mean")
    alerts = assert_told_in_time(NAME, run, 300)
    assert "responses grew" in alerts[0].message


def test_rise_with_runaway_kl() -> None:
    """The reward rises while KL climbs to 2 nats: told."""
    kl = np.geomspace(0.01, 2.0, 400) * noise(np.random.default_rng(0), 400, 0.2)
    assert alerts_of(NAME, Run({"reward_mean": ramp(400, 0.2, 0.8, 0.03, 0), "kl": kl}))


@pytest.mark.parametrize("seed", range(10))
def test_learning_is_silent(seed: int) -> None:
    """Reward up, length up by 28 %, KL from 0 to .1, entropy .35 to .07, gold up with it: what training is for."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0.0, 1.0, 500)
    run = Run(
        {
            "reward_mean": ramp(500, 0.2, 0.98, 0.03, seed),
            "response_length_mean": 200.0 * (1.0 + 0.28 * t) * noise(rng, 500, 0.03),
            "kl": 0.1 * t * noise(rng, 500, 0.3),
            "entropy": (0.07 + 0.28 * np.exp(-4.0 * t)) * noise(rng, 500, 0.08),
            "gold_score": 0.2 + 0.5 * t + rng.normal(0.0, 0.05, 500),
        }
    )
    assert_quiet(NAME, run)


def test_rise_alone_is_silent() -> None:
    """A rising reward with no second signal logged says nothing."""
    assert_quiet(NAME, Run({"reward_mean": ramp(600, 0.0, 1.0, 0.02, 0)}))


@pytest.mark.parametrize("signal", ["kl", "response_length_mean", "entropy", "gold_score"])
def test_one_odd_row_of_the_second_signal_is_silent(signal: str) -> None:
    """A single row at 100 times (or a hundredth of) the second signal's level makes no rise suspicious."""
    for row in (119, 125, 126, 127, 159):
        for times in (0.0, 100.0):
            run = healthy(200, 1)
            values = run.signals[signal].copy()
            values[row] *= times
            assert_quiet(NAME, run.having(**{signal: values, "reward_mean": ramp(200, 0.2, 0.8, 0.02, 0)}))


def test_an_odd_first_row_is_silent() -> None:
    """A first row far off (a cold start) makes neither a drift nor a suspicious second signal."""
    run = healthy(300, 2)
    signals = {name: values.copy() for name, values in run.signals.items()}
    for name in ("response_length_mean", "gold_score", "entropy"):
        signals[name][0] *= 0.05
    assert_quiet(NAME, Run(signals))


@pytest.mark.parametrize("seed", range(5))
def test_waves_are_silent(seed: int) -> None:
    """A reward that swings by a tenth around its level with a period of 50 rows drifts nowhere."""
    rng = np.random.default_rng(seed)
    swing = 0.5 + 0.05 * np.sin(np.arange(600) / 8.0) + rng.normal(0.0, 0.04, 600)
    assert_quiet(NAME, Run({"reward_mean": swing}))


def test_random_walks_do_not_drown_the_user() -> None:
    """A reward that wanders (which is a drift at times) warns at most a few times in 1,000 rows."""
    for seed in range(10):
        walk = 0.5 + np.cumsum(np.random.default_rng(seed).normal(0.0, 0.01, 1000))
        assert len(alerts_of(NAME, Run({"reward_mean": walk}))) <= 3


@pytest.mark.parametrize("level", [0.5, 100.0])
def test_stationary_noise(level: float) -> None:
    """Over 200 runs of 1,000 rows of 30 % noise: a warning in under 2 %."""
    with_critical, with_any = noise_alarms(NAME, "reward_mean", level)
    assert with_critical == 0
    assert with_any < 4


@pytest.mark.parametrize("seed", range(3))
def test_log_stride(seed: int) -> None:
    """Logged one row in 10, a fall over 600 rows is told by its end."""
    values = np.concatenate([np.full(300, 0.8), np.linspace(0.8, 0.1, 600)])
    values += np.random.default_rng(seed).normal(0.0, 0.03, 900)
    assert alerts_of(NAME, Run({"reward_mean": values}).every(10))


def test_message_and_evidence() -> None:
    """'Reward mean has been drifting down monotonically for N steps', with where it came from and went."""
    alert = alerts_of(NAME, reward_drift_down())[0]
    assert alert.message.startswith("Reward mean has been drifting down monotonically for ")
    assert int(alert.message.split()[8]) == alert.evidence["rows"]
    assert alert.evidence["to"] < alert.evidence["from"]
    assert f"from {alert.evidence['from']:.3g} to {alert.evidence['to']:.3g}" in alert.message


def test_from_arrays_alone() -> None:
    """With only the rewards of each sample, the same fall is told."""
    draws = np.random.default_rng(0).normal(0.0, 0.3, (300, 32))
    rewards = draws + np.linspace(1.0, 0.0, 300)[:, None]
    assert alerts_of(NAME, Run({}, {"rewards": rewards}))


def test_healthy_run_with_every_seed() -> None:
    """Thirty healthy runs of 300 rows raise nothing."""
    for seed in range(30):
        assert told(alerts_of(NAME, healthy(300, seed))) == []
