"""The critic does not predict the returns."""

from __future__ import annotations

import numpy as np
import pytest
from faults import Signals, around, correlated, critic
from rows import alerts_of, assert_nan_changes_nothing, assert_state_survives, false_alarms, first, observations, told

from rlwatch.detectors.critic.value_failure import ValueFailure
from rlwatch.observation import Observation

NAME = "value_failure"
ROWS = 300


def test_a_critic_that_is_lost() -> None:
    """Explained variance below zero for 30 rows, the value loss back at its opening."""
    alert = first(NAME, critic(onset=100, loss=4.0), onset=100, delay=60, severity="warning")
    assert alert.message.startswith("The critic is worse than predicting the mean: explained variance -0.")
    assert alert.evidence["value_loss"] > 0.5 * alert.evidence["value_loss_opening"]


def test_a_climbing_reward_excuses_it() -> None:
    """Recorded (a small PPO with a shared body): -.3 for a hundred rows while the reward goes from 0 to 1.6."""
    run = {**critic(onset=100, loss=4.0), "reward_mean": np.linspace(0.0, 3.0, ROWS)}
    assert alerts_of(NAME, run) == []


def test_a_critic_that_never_learns() -> None:
    """Below zero from the first row on, the loss where it was: told after 30 rows."""
    rng = np.random.default_rng(1)
    run = {"explained_variance": -0.4 + rng.normal(0.0, 0.2, ROWS), "value_loss": around(0.5, rng, ROWS)}
    first(NAME, run, onset=0, delay=50, severity="warning")


def test_a_critic_that_explains_nothing() -> None:
    """Recorded (PPO without a value loss, Pendulum): about -.005 for ever, the reward no better than at the start."""
    rng = np.random.default_rng(1)
    run = {
        "explained_variance": -0.005 + rng.normal(0.0, 0.005, ROWS),
        "value_loss": around(700.0, rng, ROWS),
        "reward_mean": -1200.0 + rng.normal(0.0, 20.0, ROWS),
    }
    alert = first(NAME, run, onset=0, delay=100, severity="warning")
    assert "explains nothing" in alert.message
    assert alerts_of(NAME, {**run, "reward_mean": np.linspace(-1200.0, -200.0, ROWS)}) == []


def test_the_first_rows_are_no_failure() -> None:
    """-1 to -2 at first, then climbing: a critic from scratch."""
    assert alerts_of(NAME, critic()) == []
    slow = {**critic(), "explained_variance": 0.6 - 1.6 * np.exp(-np.arange(ROWS) / 25.0)}
    assert alerts_of(NAME, slow) == []


def test_a_solved_task_has_no_variance_to_explain() -> None:
    """Recorded (PPO on CartPole at its maximum): -1 for ever, and a value loss a millionth of what it was."""
    t = np.arange(ROWS)
    run = {
        "explained_variance": np.where(t < 60, 0.5, -0.9),
        "value_loss": np.maximum(1e-6, 60.0 * np.exp(-t / 8.0)),
        "reward_mean": np.minimum(500.0, 20.0 + 8.0 * t),
    }
    assert alerts_of(NAME, run) == []
    assert alerts_of(NAME, {name: run[name] for name in ("explained_variance", "reward_mean")}) == []


def test_nan_at_times_is_normal() -> None:
    """A2C's explained variance is NaN on single rows, and about 0 with single rows far below."""
    rng = np.random.default_rng(2)
    explained = np.where(rng.random(ROWS) < 0.1, -30.0, np.abs(rng.normal(0.0, 0.3, ROWS)))
    explained[rng.random(ROWS) < 0.2] = np.nan
    assert alerts_of(NAME, {"explained_variance": explained, "value_loss": around(20.0, rng, ROWS, 1.0)}) == []


def test_a_value_loss_that_blows_up() -> None:
    """A hundred times its baseline, where it has never been: a warning, and critical beside a lost critic."""
    alert = first(NAME, critic(onset=100, explained=0.1, loss=200.0), onset=100, delay=12, severity="warning")
    assert alert.message.startswith("Value loss = ")
    # the fit is lost first and the loss follows
    run = dict(critic(onset=60, loss=4.0))
    run["value_loss"] = run["value_loss"] * np.where(np.arange(ROWS) >= 120, 500.0, 1.0)
    worse = first(NAME, run, onset=60, delay=80, severity="critical")
    assert "; the critic has lost its fit: explained variance -" in worse.message


def test_a_critic_that_loses_its_fit() -> None:
    """Returns in another unit: explained variance .6 -> 0, loss x500, critical within 25 rows; not while it learns."""
    run = dict(critic(onset=100, explained=0.0, loss=500.0))
    run["reward_mean"] = np.where(np.arange(ROWS) < 100, 1.0, 30.0) + np.random.default_rng(1).normal(0.0, 0.1, ROWS)
    alert = first(NAME, run, onset=100, delay=25, severity="critical")
    assert alert.message.endswith("and the reward does not rise")
    assert alert.evidence["median_of_15"] > 100 * alert.evidence["baseline"]
    climbing = {**run, "reward_mean": np.where(np.arange(ROWS) < 100, 1.0, np.arange(ROWS) - 99.0)}
    assert "critical" not in {alert.severity.value for alert in alerts_of(NAME, climbing)}
    unfitted = {**run, "explained_variance": np.minimum(run["explained_variance"], 0.15)}
    assert "critical" not in {alert.severity.value for alert in alerts_of(NAME, unfitted)}


def test_large_returns_are_no_blow_up() -> None:
    """The first success of a sparse task: the loss rises from nothing, with the reward; the critic takes its time."""
    t = np.arange(ROWS)
    run = {
        "explained_variance": np.where(t < 130, 0.0, 0.7),
        "value_loss": np.where(t < 100, 1e-6 + 1e-3 * np.exp(-t / 5.0), 0.3)
        * around(1.0, np.random.default_rng(0), ROWS),
        "reward_mean": np.where(t < 100, 0.0, 0.5),
    }
    assert alerts_of(NAME, run) == []


def test_slow_growth_that_no_reward_explains() -> None:
    """Recorded (PPO whose value loss had the wrong sign): two hundred times its start after 100 rows."""
    t = np.arange(200)
    run = {"value_loss": 100.0 + 7.0 * t * t, "reward_mean": 20.0 * np.exp(-t / 30.0), "explained_variance": 0.0 * t}
    assert any("that of the first steps" in alert.message for alert in alerts_of(NAME, run))
    assert alerts_of(NAME, {**run, "reward_mean": 20.0 + t}) == []


def test_values_far_below_the_returns() -> None:
    """Returns of 20, values that stay at 1; values that are on their way there are left alone."""
    rng = np.random.default_rng(3)
    returns = 20.0 + rng.normal(0.0, 3.0, ROWS)
    run = {"value_mean": np.ones(ROWS), "return_mean": returns}
    alert = first(NAME, run, onset=0, delay=70, severity="warning")
    assert alert.evidence["ratio"] == pytest.approx(0.05, rel=0.2)
    assert alerts_of(NAME, {"value_mean": 0.02 * np.arange(ROWS) ** 1.3, "return_mean": returns}) == []
    assert alerts_of(NAME, {"value_mean": np.zeros(ROWS), "return_mean": rng.normal(0.0, 3.0, ROWS)}) == []


def test_arrays_stand_in_for_the_explained_variance() -> None:
    """Values and returns of the batch are enough; where they do not match, nothing is made up."""
    rng = np.random.default_rng(4)
    one = ValueFailure()
    alerts = []
    for row in range(60):
        obs = Observation(row, row, 0.0)
        returns = rng.normal(5.0, 1.0, 64)
        obs.samples = {"returns": returns, "values": 10.0 - returns}
        alerts.append(one.update(obs))
    found = [alert for alert in alerts if alert]
    assert told(found)[0][1] == "warning"
    assert found[0].evidence["explained_variance"] == pytest.approx(-3.0, abs=1e-6)
    assert one.coverage().signal == "values"
    obs = Observation(60)
    obs.samples = {"returns": np.ones(8), "values": np.ones(7)}
    assert one.update(obs) is None


def test_values_without_returns_are_blind() -> None:
    """Coverage says what is missing."""
    one = ValueFailure()
    for row in observations({"value_mean": np.ones(20)}):
        one.update(row)
    assert one.coverage().reason == "value_mean came without return_mean"
    for row in observations(critic(rows=20)):
        one.update(row)
    assert one.coverage().state == "armed"


@pytest.mark.parametrize("sigma", [0.3, 0.6])
def test_healthy_noise_is_silent(sigma: float) -> None:
    """An explained variance of .4 with a noise of .3, log-normal value losses, strongly autocorrelated."""

    def make(rng: np.random.Generator) -> Signals:
        returns = 0.5 + correlated(rng, 1000, 0.1)
        return {
            "explained_variance": 0.4 + correlated(rng, 1000, 0.3),
            "value_loss": around(0.1, rng, 1000, sigma, 0.9),
            "reward_mean": 0.5 + correlated(rng, 1000, 0.1),
            "value_mean": returns + correlated(rng, 1000, 0.1),
            "return_mean": returns,
        }

    assert false_alarms(NAME, make, seeds=20) == (0, 0)


def test_state_and_nan() -> None:
    """A resumed run goes on as it was, and NaN rows change nothing."""
    run = dict(critic(onset=60, loss=4.0))
    run["value_loss"] = run["value_loss"] * np.where(np.arange(ROWS) >= 120, 500.0, 1.0)
    assert_state_survives(NAME, run)
    assert_nan_changes_nothing(NAME, run)
