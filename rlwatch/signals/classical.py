"""Stable-Baselines3 (2.9), CleanRL and RLlib (2.55, and its old API stack)."""

from __future__ import annotations

from rlwatch.signals.alias import Alias, Table

SB3: Table = {
    "reward_mean": ("rollout/ep_rew_mean",),
    "episode_length_mean": ("rollout/ep_len_mean",),
    "policy_loss": ("train/policy_gradient_loss", "train/policy_loss", "train/actor_loss"),
    "approx_kl": ("train/approx_kl", "train/kl_divergence_loss"),
    "value_loss": ("train/value_loss", "train/critic_loss"),
    "entropy": (Alias("train/entropy_loss", -1.0),),
    "entropy_coef": ("train/ent_coef",),
    "action_std": ("train/std",),
    "env_steps_per_second": ("time/fps",),
    "env_steps": ("time/total_timesteps",),
}

CLEANRL: Table = {
    "reward_mean": ("charts/episodic_return",),
    "episode_length_mean": ("charts/episodic_length",),
    "policy_loss": ("losses/policy_loss", "losses/actor_loss"),
    "approx_kl": ("losses/approx_kl", "losses/old_approx_kl"),
    "clip_fraction": ("losses/clipfrac",),
    "learning_rate": ("charts/learning_rate",),
    "value_loss": ("losses/value_loss", "losses/qf_loss", "losses/td_loss"),
    "explained_variance": ("losses/explained_variance",),
    "value_mean": ("losses/qf1_values", "losses/q_values"),
    "entropy": ("losses/entropy",),
    "entropy_coef": ("losses/alpha",),
    "env_steps_per_second": ("charts/SPS",),
}

RLLIB: Table = {
    "reward_mean": (
        "env_runners/episode_return_mean",
        "env_runners/episode_reward_mean",
        "sampler_results/episode_reward_mean",
        "episode_reward_mean",
    ),
    "reward_max": ("env_runners/episode_return_max", "episode_reward_max"),
    "reward_min": ("env_runners/episode_return_min", "episode_reward_min"),
    "episode_length_mean": (
        "env_runners/episode_len_mean",
        "sampler_results/episode_len_mean",
        "episode_len_mean",
    ),
    "env_steps": ("num_env_steps_sampled_lifetime", "env_runners/num_env_steps_sampled_lifetime"),
    "step_time": ("time_this_iter_s",),
}

# The last part of learners/<module>/... and of the old info/learner/<policy>/learner_stats/...
# The old stack's grad_gnorm is left out: it is capped at the clipping limit.
RLLIB_LEARNER: Table = {
    "loss": ("total_loss",),
    "policy_loss": ("policy_loss", "actor_loss"),
    "approx_kl": ("mean_kl_loss", "kl"),
    "kl_coef": ("curr_kl_coeff", "cur_kl_coeff"),
    "grad_norm": ("gradients_default_optimizer_global_norm",),
    "learning_rate": ("default_optimizer_learning_rate", "cur_lr"),
    "value_loss": ("vf_loss", "critic_loss", "qf_loss"),
    "explained_variance": ("vf_explained_var",),
    "value_mean": ("qf_mean",),
    "entropy": ("entropy",),
    "entropy_coef": ("curr_entropy_coeff", "entropy_coeff", "alpha_value"),
    "staleness": ("diff_num_grad_updates_vs_sampler_policy",),
}
