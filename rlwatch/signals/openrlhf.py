"""OpenRLHF's keys (0.11; a few of older versions). Its trackers put `train/` before each."""

from __future__ import annotations

from rlwatch.signals.alias import Alias, Beside, Table

OPENRLHF: Table = {
    # `reward` and `score` are averages over dynamic batches, rollout/reward_mean is exact.
    "reward_mean": ("rollout/reward_mean", "reward", "score"),
    "reward_std": ("rollout/reward_std",),
    # Percent of prompts whose rewards were neither all too low nor all too high.
    "frac_reward_zero_std": (Alias("dynamic_filtering_pass_rate", -0.01, 1.0),),
    "response_length_mean": ("rollout/response_length_mean", "response_length"),
    # response_clip_ratio is the truncation rate of versions that have no `truncated`.
    "truncation_rate": ("rollout/truncated_rate", "truncated", "response_clip_ratio"),
    "kl": ("logprobs_diff",),
    "approx_kl": ("ppo_kl",),
    "rollout_kl": ("vllm_kl",),
    "clip_fraction": ("ppo_clip_ratio", "clip_ratio"),
    "entropy": ("entropy_loss",),
    "value_loss": ("critic_loss",),
    "return_mean": ("return",),
    "grad_norm": ("actor_grad_norm",),
    "learning_rate": ("actor_lr",),
    "critic_learning_rate": ("critic_lr",),
    "step_time": ("timing/step_total",),
    "generation_time": ("timing/generation",),
    "update_time": ("timing/ppo_train",),
}

# Under its trackers the key equals Stable-Baselines3's, which is minus the entropy.
BESIDE: tuple[Beside, ...] = (Beside("entropy_loss", ("actor_lr", "ppo_kl"), "entropy"),)
