"""Real training with Stable-Baselines3: healthy runs are silent, broken ones are told."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("stable_baselines3", reason="needs stable-baselines3: pip install 'rlwatch[sb3]'")

from support_sb3 import At, Breakable, SeenWatch, finite, make, returns_of, times

from rlwatch.adapters.sb3 import RLWatchCallback

pytestmark = pytest.mark.usefixtures("elsewhere", "whole_environments")


def dead(model: Any) -> None:
    """No reward comes any more."""
    Breakable.change = lambda reward: 0.0


def told(watch: SeenWatch, fault_step: int) -> dict[str, int]:
    """Detector -> the step of its first alert; none may be earlier than the fault."""
    first: dict[str, int] = {}
    for alert in watch.alerts:
        assert alert.step >= fault_step, alert
        first.setdefault(alert.detector, alert.step)
    return first


@pytest.mark.parametrize(("name", "steps", "better"), [("ppo", 8192, 2.0), ("a2c", 8000, 1.0)])
def test_cartpole_is_learnt_in_silence(name: str, steps: int, better: float) -> None:
    """Returns rise, and not one alert comes."""
    watch, model = SeenWatch(), make(name)
    model.learn(steps, callback=RLWatchCallback(watch=watch))
    returns = returns_of(watch)
    assert sum(returns[-3:]) > better * sum(returns[:3])
    assert not watch.alerts


@pytest.mark.parametrize(("name", "steps"), [("ppo-gauss", 8192), ("sac", 1200), ("dqn", 2400)])
def test_other_healthy_runs_are_silent(name: str, steps: int) -> None:
    """Continuous actions, whose entropy passes zero, and off-policy learning."""
    watch, model = SeenWatch(), make(name)
    model.learn(steps, callback=RLWatchCallback(watch=watch))
    assert watch.rows >= 10
    assert not watch.alerts


def test_ppo_with_a_learning_rate_1000_times_too_high() -> None:
    """KL and entropy say so within a few rows, and the reward that is lost is a critical."""
    watch, model = SeenWatch(), make("ppo", seed=2)
    model.learn(14080, callback=[At(12000, times(1000)), RLWatchCallback(watch=watch)])
    first = told(watch, 12000)
    assert first["kl_explosion"] <= 12000 + 4 * 256
    assert first["entropy_collapse"] <= 12000 + 4 * 256
    assert any(alert.detector == "reward_collapse" and alert.critical for alert in watch.alerts)


def test_sac_with_a_learning_rate_1000_times_too_high() -> None:
    """The critic's targets run away until its loss overflows: told, and kept from the weights."""
    watch, model = SeenWatch(), make("sac")
    callback = RLWatchCallback(watch=watch)
    model.learn(1000, callback=[At(700, times(1000)), callback])
    first = told(watch, 700)
    assert first["loss_nonfinite"] <= 900
    assert callback.withheld > 0
    assert finite(model)


def test_ppo_with_dead_rewards() -> None:
    """No reward comes any more, seen where SB3 looks for it: in the episodes."""
    watch, model = SeenWatch(), make("ppo")
    model.learn(14080, callback=[At(6000, dead), RLWatchCallback(watch=watch)])
    first = told(watch, 6000)
    assert "reward_collapse" in first
    assert any(alert.critical for alert in watch.alerts)


def test_dqn_with_dead_rewards() -> None:
    """Off-policy the same, from a return of 10."""
    watch, model = SeenWatch(), make("dqn", train_freq=4)
    model.learn(5700, callback=[At(4000, dead), RLWatchCallback(watch=watch)])
    assert "reward_collapse" in told(watch, 4000)
