"""A Stable-Baselines3 model goes back to its last healthy state, and on with a remedy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("stable_baselines3", reason="needs stable-baselines3: pip install 'rlwatch[sb3]'")

from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecNormalize
from support_sb3 import SILENT, At, SeenWatch, everything, finite, make, same, times

from rlwatch import Alert, Observation, Severity, Verdict
from rlwatch.adapters.sb3 import RLWatchCallback

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(autouse=True)
def _no_gym(monkeypatch: pytest.MonkeyPatch) -> None:
    """SB3 writes the version of the old `gym` into its files, if there is one; tests/gym is none."""
    monkeypatch.setitem(sys.modules, "gym", None)


class Sick(SeenWatch):
    """Says at one row, counted from 0, that the policy has gone bad."""

    def __init__(self, row: int, detector: str = "kl_explosion", **settings: Any) -> None:
        super().__init__(on_critical="rollback", snapshot_every=1, **settings)
        self._sick = row
        team = self._team.update

        def update(observation: Observation) -> list[Alert]:
            alerts = team(observation)
            if observation.row != self._sick:
                return alerts
            return [*alerts, Alert(detector, Severity.CRITICAL, observation.step, "broken", {"rows_since_onset": 1})]

        self._team.update = update  # type: ignore[method-assign]


class States(BaseCallback):
    """What the model was before the updates of each row, and what it is when the next rollout begins."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[dict[str, Any]] = []
        self.after: list[dict[str, Any]] = []
        self._updates = -1

    def _on_rollout_end(self) -> None:
        self.before.append(everything(self.model))

    def _on_rollout_start(self) -> None:
        self.after.append(everything(self.model))

    def _on_step(self) -> bool:
        return True


def test_policy_and_optimizer_go_back_bit_for_bit() -> None:
    """The state is one that was there before, no update of the sick row is left in it, and training goes on."""
    watch, states, model = Sick(3), States(), make("ppo")
    model.learn(1792, callback=[RLWatchCallback(watch=watch), states])
    assert watch.verdicts[3].rollback
    (event,) = [event for event in watch.events if event["event"] == "rollback"]
    to_row = event["to_step"] // 256 - 1
    assert same(states.after[4], states.before[to_row])
    assert not same(states.after[4], states.before[3])
    assert model.num_timesteps == 1792
    assert not same(everything(model), states.after[4])


def test_the_remedy_changes_what_sb3_reads() -> None:
    """A learning rate x0.2 that SB3's schedule would set back at every update is one that it keeps."""
    watch, model = Sick(2, "reward_collapse"), make("ppo", learning_rate=lambda progress: 1e-3 * progress)
    model.learn(2048, callback=RLWatchCallback(watch=watch))
    rates = [row.signals["learning_rate"] for row in watch.rows_seen]
    assert rates[:3] == pytest.approx([1e-3 * (1 - (i + 1) / 8) for i in range(3)])
    assert rates[3:7] == pytest.approx([2e-4 * (1 - (i + 1) / 8) for i in range(3, 7)])


def test_remedies_of_each_kind() -> None:
    """Clip range, epochs, gradient clipping and entropy bonus are the model's own numbers."""
    seen: dict[str, Any] = {}

    def remedy(context: Any) -> str:
        levers = context.levers
        seen.update(levers.values())
        levers["clip_range"] = levers["clip_range"] / 2
        levers["epochs"] = 2
        levers["max_grad_norm"] = 0.1
        levers["entropy_coef"] = 0.01
        return "everything"

    watch, model = Sick(1), make("ppo")
    model.learn(1024, callback=RLWatchCallback(watch=watch, remedies=remedy))
    expected = {"max_grad_norm": 0.5, "lr": 1e-3, "clip_range": 0.2, "epochs": 4, "entropy_coef": 0.0}
    assert seen == {**expected, "value_coef": 0.5, "normalize_advantages": True}
    assert (model.n_epochs, model.max_grad_norm, model.ent_coef) == (2, 0.1, 0.01)
    assert watch.rows_seen[2].signals["clip_range"] == pytest.approx(0.1)
    assert watch.rows_seen[2].signals["entropy_coef"] == 0.01


def test_sac_goes_back_with_targets_temperature_and_replay_position() -> None:
    """What the sick policy played is dropped; clipping, which SAC has not, is done for it."""
    watch, states = Sick(2, "gradient_spike"), States()
    model = make("sac")
    places: list[tuple[int, int]] = []

    class Places(BaseCallback):
        def _on_rollout_start(self) -> None:
            places.append((model.num_timesteps, model.replay_buffer.pos))

        def _on_step(self) -> bool:
            return True

    model.learn(420, callback=[RLWatchCallback(watch=watch), states, Places()])
    (event,) = [event for event in watch.events if event["event"] == "rollback"]
    back = event["step"]
    assert event["to_step"] < back
    assert dict(places)[back - 1] == back - 1
    assert dict(places)[back] == event["to_step"]
    assert same(states.after[back], states.before[event["to_step"] - 1])
    assert event["remedies"] == ["gradient clipping none -> 1"]
    assert finite(model)


def test_statistics_of_vecnormalize_go_back_and_the_next_observation_with_them() -> None:
    """The observation that is answered next is normalised by the statistics that were put back."""
    watch = Sick(3)
    model = make("ppo", wrap=lambda env: VecNormalize(env, clip_reward=5.0))
    counts: list[float] = []
    last: list[Any] = []

    class Look(BaseCallback):
        def _on_rollout_end(self) -> None:
            counts.append(model.env.obs_rms.count)

        def _on_rollout_start(self) -> None:
            if len(watch.events):
                last.append((model._last_obs, model.env.normalize_obs(model.env.get_original_obs())))
                counts.append(model.env.obs_rms.count)

        def _on_step(self) -> bool:
            return True

    model.learn(1024, callback=[RLWatchCallback(watch=watch), Look()])
    model.learn(256, callback=[RLWatchCallback(watch=watch), Look()], reset_num_timesteps=False)
    (event,) = [event for event in watch.events if event["event"] == "rollback"]
    assert counts[4] == counts[event["to_step"] // 256 - 1]
    np.testing.assert_array_equal(*last[0])


def test_the_end_of_training_is_judged_too() -> None:
    """A model whose last update went bad is handed over as it was before it."""
    watch, states, model = Sick(3), States(), make("ppo")
    model.learn(1024, callback=[RLWatchCallback(watch=watch), states])
    (event,) = [event for event in watch.events if event["event"] == "rollback"]
    assert same(everything(model), states.before[event["to_step"] // 256 - 1])


def test_what_cannot_be_cured_halts() -> None:
    """Dead rewards are outside of the weights: SB3 is stopped, and told why."""
    watch = Sick(2, "reward_degenerate")
    callback = RLWatchCallback(watch=watch)
    model = make("ppo")
    model.learn(4096, callback=callback)
    assert callback.halted
    assert model.num_timesteps == 768 + model.n_envs
    assert "going back cannot cure reward_degenerate" in watch.events[-1]["message"]


def test_a_learning_rate_30_times_too_high_is_healed() -> None:
    """A real collapse that the detectors find themselves: one rollback, and the policy learns again."""
    watch, model = SeenWatch(on_critical="rollback"), make("ppo")
    model.learn(16000, callback=[At(6000, times(30)), RLWatchCallback(watch=watch)])
    (event,) = [event for event in watch.events if event["event"] == "rollback"]
    assert 6000 < event["step"] < 9000
    assert event["remedies"] == ["learning rate 0.001 -> 0.0002"]
    after = [row for row in watch.rows_seen if row.step > event["step"]]
    assert max(row.signals["approx_kl"] for row in after[1:]) < 0.1
    returns = [row.signals["reward_mean"] for row in after if "reward_mean" in row.signals]
    assert sum(returns[-4:]) > 2 * sum(returns[:4])


def saved_and_loaded(model: Any, folder: Path) -> Any:
    """Through SB3's own file."""
    model.save(folder / "model.zip")
    return PPO.load(folder / "model.zip", env=model.get_env(), device="cpu")


def test_a_saved_model_goes_on_with_its_baselines(elsewhere: Path) -> None:
    """`learn(reset_num_timesteps=False)` on the loaded model counts on; without it a new run begins."""
    model = make("ppo")
    first = RLWatchCallback(**SILENT)
    model.learn(768, callback=first)
    loaded = saved_and_loaded(model, elsewhere)
    second = RLWatchCallback(**SILENT)
    loaded.learn(256, callback=second, reset_num_timesteps=False)
    assert second.watch is not None
    assert (second.watch.rows, second.watch.step) == (4, 1024)
    loaded.learn(256, callback=second)
    assert (second.watch.rows, second.watch.step) == (1, 256)


def test_the_file_can_be_read_without_rlwatch(elsewhere: Path) -> None:
    """What is in it is a plain dict of JSON values."""
    model = make("ppo")
    model.learn(512, callback=RLWatchCallback(**SILENT, on_critical="rollback"))
    model.save(elsewhere / "model.zip")
    data, _, _ = load_from_zip_file(elsewhere / "model.zip")
    assert data is not None
    assert type(data["rlwatch_state"]) is dict
    assert data["rlwatch_state"]["rows"] == 2


def test_remedies_outlive_a_save(elsewhere: Path) -> None:
    """The learning rate that a rollback lowered is low in the resumed run, and its budget is used up as far."""
    model = make("ppo")
    model.learn(1024, callback=RLWatchCallback(watch=Sick(2, "reward_collapse")))
    loaded = saved_and_loaded(model, elsewhere)
    assert loaded.lr_schedule(1.0) == pytest.approx(1e-3)
    watch = SeenWatch(on_critical="rollback")
    callback = RLWatchCallback(watch=watch)
    loaded.learn(256, callback=callback, reset_num_timesteps=False)
    assert watch.rows_seen[-1].signals["learning_rate"] == pytest.approx(2e-4)
    assert loaded.rlwatch_state.state()["rollback"]["done"][0]["detector"] == "reward_collapse"
    assert torch.isfinite(torch.tensor(loaded.lr_schedule(0.5)))


def test_a_replay_buffer_that_has_come_round_is_left_alone() -> None:
    """There is nothing older left in it."""
    watch, model = Sick(2), make("dqn", buffer_size=60)
    model.learn(720, callback=RLWatchCallback(watch=watch))
    assert [event["event"] for event in watch.events] == ["rollback"]
    assert model.replay_buffer.full
    assert isinstance(watch.verdicts[2], Verdict)
