"""The reward loses what it had reached."""

from __future__ import annotations

import numpy as np
import pytest
from faults import Array, Signals, correlated, learning, reward_collapse
from rows import alerts_of, assert_nan_changes_nothing, assert_state_survives, false_alarms, first

NAME = "reward_collapse"


def verified(rng: np.random.Generator, rates: Array, samples: int = 8) -> Array:
    """Mean of a few verified answers a row, with prompts of different difficulty."""
    easy = rng.beta(np.maximum(0.05, 2.0 * rates), np.maximum(0.05, 2.0 * (1.0 - rates)))
    return rng.binomial(samples, easy) / samples


@pytest.mark.parametrize("seed", range(3))
def test_a_collapse_warns_and_then_is_critical(seed: int) -> None:
    """Both tiers within a few rows, in words that can be checked against the curve."""
    alert = first(NAME, reward_collapse(seed=seed), onset=100, delay=8, severity="warning")
    assert alert.message.startswith("Reward fell to 0.")
    assert "of its peak" in alert.message
    assert alert.evidence["left"] < 0.3
    first(NAME, reward_collapse(seed=seed), onset=100, delay=12, severity="critical")


@pytest.mark.parametrize("strength", [0.02, 0.2])
def test_a_slow_fall_is_found_too(strength: float) -> None:
    """Over 20 and over 200 rows."""
    first(NAME, reward_collapse(strength, rows=500), onset=100, delay=int(5 / strength), severity="warning")


def test_a_fall_is_traced_back_to_its_beginning() -> None:
    """A slow one began long before its alert; what is before the trace is the reward's best."""
    for strength in (0.02, 0.1):
        alert = first(NAME, reward_collapse(strength, rows=500), onset=100, delay=int(5 / strength), severity="warning")
        began = alert.step - alert.evidence["rows_since_onset"]
        assert 60 <= began <= 100 + 0.4 / strength


def test_an_evaluation_that_fell_too_makes_it_critical() -> None:
    """A fall that only warns by itself."""
    run = reward_collapse(strength=0.3, rows=200)
    level = np.where(np.arange(200) < 100, 0.8, 0.2) + np.random.default_rng(0).normal(0.0, 0.02, 200)
    severities = {}
    for name, gold in (("alone", np.full(200, 0.7)), ("both", np.where(np.arange(200) < 100, 0.7, 0.2))):
        alerts = alerts_of(NAME, {**run, "reward_mean": level, "gold_score": gold})
        severities[name] = {alert.severity.value for alert in alerts}
    assert severities == {"alone": {"warning"}, "both": {"critical"}}


def test_a_recorded_collapse() -> None:
    """A GRPO run, one row in five steps: .9 .88 -> .23 -> 0 at its eighth row."""
    rewards = [0.85, 0.97, 0.85, 0.72, 1.0, 0.95, 0.88, 0.23, *[0.0] * 4, 0.025, 0.075, 0.15, *[0.02] * 12]
    alerts = alerts_of(NAME, {"reward_mean": np.array(rewards)})
    assert [(alert.step, alert.severity.value) for alert in alerts] == [(11, "warning")]


@pytest.mark.parametrize("dip", [[0.0], [0.0, 0.0], [0.3, 0.05, 0.35, 0.6]])
def test_dips_that_recover_are_silent(dip: list[float]) -> None:
    """One row at nothing, or a few at half: recorded in healthy runs."""
    run = learning()
    run["reward_mean"][150 : 150 + len(dip)] = dip
    assert alerts_of(NAME, {"reward_mean": run["reward_mean"]}) == []


def test_noisy_rows_need_many_rows() -> None:
    """Means of 8 verified answers jump between 0 and 1: a real fall is found within 60 rows, not before it."""
    rng = np.random.default_rng(0)
    rates = np.where(np.arange(400) < 250, 0.7, 0.05)
    first(NAME, {"reward_mean": verified(rng, rates)}, onset=250, delay=60, severity="warning")


def test_rewards_below_zero_are_judged_by_their_range() -> None:
    """Returns that climb from -300 to 500 and fall back: the share is of the range; a level at -150 is not 'left'."""
    rng = np.random.default_rng(0)
    climb = -300.0 + 800.0 * (1.0 - np.exp(-np.arange(200) / 40.0))
    returns = np.concatenate([climb, np.full(100, -250.0)]) + rng.normal(0.0, 20.0, 300)
    alert = first(NAME, {"reward_mean": returns}, onset=200, delay=5, severity="warning")
    assert "of the range up to its peak" in alert.message


def test_penalties_that_never_pass_zero() -> None:
    """-1200 -> -150 -> -1100, as in a swing-up: a fall although every reward is negative."""
    rng = np.random.default_rng(0)
    level = np.concatenate([np.linspace(-1200.0, -150.0, 150), np.full(100, -150.0), np.full(60, -1100.0)])
    first(NAME, {"reward_mean": level + rng.normal(0.0, 30.0, 310)}, onset=250, delay=5, severity="warning")


def test_half_of_the_peak_is_no_collapse() -> None:
    """Healthy runs were measured down to .35 of their peak."""
    run = np.where(np.arange(300) < 150, 0.9, 0.45) + np.random.default_rng(0).normal(0.0, 0.03, 300)
    assert alerts_of(NAME, {"reward_mean": run}) == []


@pytest.mark.parametrize("samples", [4, 8, 64])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.95])
def test_verified_rewards_in_health(samples: int, rate: float) -> None:
    """Stationary and learning 0/1 rewards, few or many a row: 40 runs of 800 rows."""

    def make(rng: np.random.Generator) -> Signals:
        learnt = 1.0 - np.exp(-np.arange(800) / rng.uniform(20.0, 300.0)) if rng.random() < 0.5 else np.zeros(800)
        return {"reward_mean": verified(rng, rate + (0.97 - rate) * learnt, samples)}

    assert false_alarms(NAME, make) == (0, 0)


@pytest.mark.parametrize("phi", [0.0, 0.6, 0.8])
def test_signed_rewards_in_health(phi: float) -> None:
    """Scores around a level or on a climb, rows independent or not: no critical, at most one run in 40 warned."""

    def make(rng: np.random.Generator) -> Signals:
        climb = rng.choice([0.0, 1.0]) * (1.0 - np.exp(-np.arange(800) / rng.uniform(20.0, 300.0)))
        noise = correlated(rng, 800, rng.uniform(0.05, 0.3), phi or 1e-9)
        return {"reward_mean": rng.uniform(-1.0, 1.0) + climb + noise}

    with_critical, with_any = false_alarms(NAME, make)
    assert with_critical == 0
    assert with_any <= 1


def test_state_and_nan() -> None:
    """A checkpoint in mid-stream and rows of NaN change no alert."""
    assert_state_survives(NAME, reward_collapse(rows=160))
    assert_nan_changes_nothing(NAME, reward_collapse(rows=160))
