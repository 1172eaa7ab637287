"""A poisoned update never reaches the weights of a Stable-Baselines3 model, and a halt stops it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

pytest.importorskip("stable_baselines3", reason="needs stable-baselines3: pip install 'rlwatch[sb3]'")

from support_sb3 import SILENT, At, Breakable, SeenWatch, everything, finite, make, same

from rlwatch import Action, ConfigError
from rlwatch.adapters.sb3 import RLWatchCallback

pytestmark = pytest.mark.usefixtures("elsewhere", "whole_environments")

NAN = float("nan")


def nan_rewards(model: Any) -> None:
    """From now on every reward is NaN."""
    Breakable.change = lambda reward: NAN


@pytest.mark.parametrize(("name", "steps"), [("ppo", 768), ("a2c", 300), ("dqn", 300), ("sac", 160), ("td3", 160)])
def test_a_nan_reward_does_not_reach_the_weights(name: str, steps: int) -> None:
    """Every update that it would spoil is withheld exactly, the alert comes at once, and training goes on."""
    watch, model = SeenWatch(), make(name)
    callback = RLWatchCallback(watch=watch)
    model.learn(steps, callback=[At(steps // 2, nan_rewards), callback])
    assert finite(model)
    assert model.num_timesteps >= steps
    assert callback.withheld > 0
    (alert,) = [alert for alert in watch.alerts if alert.detector == "loss_nonfinite"]
    assert alert.critical
    assert steps // 2 <= alert.step < steps
    assert any(verdict.poisoned and verdict.action is Action.SKIP for verdict in watch.verdicts)


def test_without_the_guard_it_does() -> None:
    """on_nonfinite="continue" leaves the gradients alone, and the same run is lost: the guard is what kept it."""
    model = make("dqn")
    callback = RLWatchCallback(watch=SeenWatch(on_nonfinite="continue"))
    model.learn(300, callback=[At(150, nan_rewards), callback])
    assert not finite(model)
    assert callback.withheld == 0


@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf")])
def test_one_bad_gradient_withholds_one_update(bad: float) -> None:
    """The row of the bad minibatch moved no weight; those before and after it did."""
    model = make("ppo", n_epochs=1, batch_size=256)
    weight = next(iter(model.policy.mlp_extractor.parameters()))
    calls = [0]

    def spoil(grad: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return grad.index_fill(0, torch.tensor([1]), bad) if calls[0] == 2 else grad

    weight.register_hook(spoil)
    watch = SeenWatch()
    model.learn(768, callback=RLWatchCallback(watch=watch))
    assert [row.poisoned for row in watch.rows_seen] == [False, True, False]
    assert [row.signals.get("update_norm", 0.0) > 0.0 for row in watch.rows_seen] == [True, False, True]


def test_huge_finite_gradients_are_not_withheld() -> None:
    """A norm that overflows is no reason where every gradient is finite: SB3 clips them as ever."""
    model = make("td3", learning_starts=20)
    weight = next(iter(model.critic.parameters()))
    weight.register_hook(lambda grad: grad.clamp(-1, 1) * 0.0 + 1e30)
    callback = RLWatchCallback(watch=SeenWatch())
    before = everything(model)
    model.learn(30, callback=callback)
    assert callback.withheld == 0
    assert not same(before, everything(model))


def test_a_critical_halts_at_the_next_step() -> None:
    """on_critical="halt": SB3's own stop, one step of the environments after the row."""
    callback = RLWatchCallback(**SILENT, on_critical="halt")
    model = make("ppo")
    model.learn(5000, callback=[At(500, nan_rewards), callback])
    assert callback.halted
    assert model.num_timesteps == 512 + model.n_envs
    assert finite(model)
    model.learn(256, callback=RLWatchCallback(**SILENT))  # the next one goes on


def test_what_cannot_be_done_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """A skip comes too late in SB3; a wrong setting is an error at once."""
    make("ppo").learn(256, callback=RLWatchCallback(**{**SILENT, "strict": False}, on_critical="skip"))
    assert "on_critical='skip' does nothing here" in caplog.text
    with pytest.raises(ConfigError):
        RLWatchCallback(on_critical="stop")
    with pytest.raises(ValueError, match="either watch= or settings"):
        RLWatchCallback("ppo", watch=SeenWatch())
    with pytest.raises(ValueError, match="a remedy is a function"):
        RLWatchCallback(remedies=3)


def test_the_preset_is_classic_unless_another_is_given() -> None:
    """Also where it comes from the environment or a file."""
    for given, preset in ((None, "classic"), ("ppo", "ppo")):
        callback = RLWatchCallback(given, **SILENT)
        make("ppo").learn(256, callback=callback)
        assert callback.watch is not None
        assert callback.watch.settings.preset == preset


def test_withheld_updates_are_said_once_a_power_of_ten(caplog: pytest.LogCaptureFixture) -> None:
    """A run that is all NaN does not fill the log."""
    with caplog.at_level(logging.WARNING, "rlwatch"):
        callback = RLWatchCallback(watch=SeenWatch())
        make("ppo").learn(1024, callback=[At(1, nan_rewards), callback])
    assert callback.withheld == 64
    assert caplog.text.count("was withheld from the weights") == 2
