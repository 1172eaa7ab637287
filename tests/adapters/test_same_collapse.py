"""The same induced collapse is told at the same step by every adapter; verl's and OpenRLHF's tests have theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import collapse
import gymnasium
import numpy as np
import pytest
import support_sb3
import support_trl
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from rlwatch.adapters.sb3 import RLWatchCallback as SB3Callback
from rlwatch.adapters.trl import RLWatchCallback


@pytest.mark.parametrize("preset", ["grpo", "ppo", "classic"])
def test_a_plain_loop(preset: str) -> None:
    """The step that the others are held to is the one of `Watch.log` alone, whatever the preset."""
    watch = support_trl.seen_watch(preset=preset)
    for step in range(1, collapse.STEPS + 1):
        watch.log(step=step, rewards=collapse.rewards(step))
    assert collapse.alerted(watch) == collapse.FIRST


def test_a_pytorch_loop_with_a_guard() -> None:
    """A policy over eight actions, trained by REINFORCE on these rewards, with torch's values."""
    torch.manual_seed(0)
    logits = torch.nn.Parameter(torch.zeros(8))
    optimizer = torch.optim.SGD([logits], lr=1e-2)
    watch = support_trl.seen_watch(preset="grpo")
    guard = watch.guard(torch.nn.ParameterList([logits]), optimizer)
    for step in range(1, collapse.STEPS + 1):
        rewards = torch.tensor(collapse.rewards(step))
        policy = torch.distributions.Categorical(logits=logits)
        loss = -(policy.log_prob(policy.sample((collapse.SAMPLES,))) * (rewards - rewards.mean())).mean()
        optimizer.zero_grad()
        loss.backward()
        verdict = watch.log(step=step, loss=loss, rewards=rewards, entropy=policy.entropy())
        if not guard.step(verdict):
            optimizer.step()
    assert abs(collapse.alerted(watch) - collapse.FIRST) <= 1


def test_trl(tmp_path: Path) -> None:
    """TRL's GRPOTrainer, whose reward function gives these rewards."""

    def fallen(completions: list[str], trainer_state: Any, **_: Any) -> list[float]:
        return collapse.rewards(trainer_state.global_step + 1)[: len(completions)]

    watch = support_trl.seen_watch(preset="grpo")
    given = {"per_device_train_batch_size": collapse.SAMPLES, "learning_rate": 1e-5, "reward_funcs": [fallen]}
    support_trl.grpo(tmp_path, [RLWatchCallback(watch=watch)], steps=collapse.STEPS, **given).train()
    assert abs(collapse.alerted(watch) - collapse.FIRST) <= 1


class Bandit(gymnasium.Env[Any, Any]):
    """Episodes of one step, whose rewards are those of the collapse."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self) -> None:
        self.taken = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Always the same state."""
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        """One episode."""
        step, sample = divmod(self.taken, collapse.SAMPLES)
        self.taken += 1
        return np.zeros(1, np.float32), collapse.rewards(step + 1)[sample], True, False, {}


def test_sb3() -> None:
    """Stable-Baselines3's PPO, a rollout of which holds the rewards of one step."""
    watch = support_sb3.SeenWatch()
    given = {"n_steps": collapse.SAMPLES, "batch_size": collapse.SAMPLES, "learning_rate": 1e-5}
    model = PPO("MlpPolicy", make_vec_env(Bandit, 1, seed=0), seed=0, device="cpu", **given)
    model.learn(collapse.STEPS * collapse.SAMPLES, callback=SB3Callback(watch=watch))
    assert [row.step for row in watch.rows_seen][:2] == [8, 16]  # its steps count the environment's
    assert abs(collapse.alerted(watch, collapse.SAMPLES) - collapse.FIRST) <= 1
