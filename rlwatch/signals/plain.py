"""Names that people give in loops of their own, where the name leaves no doubt about quantity and sign."""

from __future__ import annotations

from rlwatch.signals.alias import Table

_WORDS = {
    "reward_mean": """
        mean_reward reward/mean rewards/mean avg_reward average_reward reward_avg train_reward mean_score
        score_mean episode_reward episode_return episodic_return episodic_reward ep_reward ep_return
        ep_rew_mean ep_reward_mean episode_return_mean mean_episode_reward mean_episode_return""",
    "reward_std": "std_reward reward/std rewards/std rewards_std",
    "reward_max": "max_reward reward/max rewards/max",
    "reward_min": "min_reward reward/min rewards/min",
    "group_reward_std": "reward_std_within_group mean_group_std group_std",
    "frac_reward_zero_std": "frac_zero_std zero_std_frac zero_std_ratio",
    "gold_score": """
        gold gold/mean gold_reward gold_score_mean gold_reward_mean true_reward
        eval_reward eval_reward_mean eval/reward eval/reward_mean eval/mean_reward
        evaluation/episode_reward_mean evaluation/env_runners/episode_return_mean""",
    "response_length_mean": """
        mean_response_length avg_response_length response_len response_len_mean completion_length_mean
        mean_completion_length""",
    "response_length_max": "max_response_length max_completion_length",
    "response_length_min": "min_response_length min_completion_length",
    "truncation_rate": "truncated_rate truncation_ratio truncated_ratio truncated_frac",
    "episode_length_mean": "episode_length episodic_length episode_len ep_length ep_len ep_len_mean",
    "advantage_mean": "advantage adv mean_advantage adv_mean advantages/mean advantages_mean",
    "advantage_std": "adv_std std_advantage advantages/std advantages_std",
    "advantage_max": "adv_max max_advantage advantages/max advantages_max",
    "advantage_min": "adv_min min_advantage advantages/min advantages_min",
    "loss": "total_loss loss/total losses/total training_loss",
    "policy_loss": "pg_loss actor_loss policy_gradient_loss loss/policy loss/actor loss_pg policy/loss",
    "kl": """
        kl_divergence kl_div kl_mean mean_kl kl/mean kl_ref ref_kl kl_to_ref kl_to_reference reference_kl
        kl_loss""",
    "approx_kl": """
        approxkl kl_approx approx_kl_mean kl_old_new old_approx_kl policy/approx_kl policy/approxkl""",
    "kl_coef": "kl_coeff kl_beta kl_ctl kl_weight",
    "kl_target": "target_kl",
    "ratio": "ratio_mean mean_ratio importance_ratio prob_ratio",
    "clip_fraction": """
        clip_frac clipfrac pg_clipfrac clipped_fraction policy/clipfrac policy/clip_fraction""",
    "clip_range": "clip_eps clip_epsilon cliprange clip_coef",
    "grad_norm": """
        gradient_norm gradnorm total_grad_norm global_grad_norm policy_grad_norm grad_norm/policy
        optim/grad_norm policy/grad_norm""",
    "learning_rate": "optim/lr optim/learning_rate policy_lr",
    "weight_norm": "param_norm parameter_norm",
    "value_loss": "vf_loss v_loss loss/value loss/critic baseline_loss value/loss",
    "explained_variance": "explained_var vf_explained_var value/explained_variance",
    "value_mean": "value mean_value values/mean values_mean",
    "return_mean": "returns/mean returns_mean",
    "value_clip_fraction": "value_clipfrac vf_clipfrac value/clipfrac",
    "critic_grad_norm": "value_grad_norm vf_grad_norm",
    "entropy": "policy_entropy policy/entropy mean_entropy entropy_mean entropy/mean token_entropy",
    "entropy_coef": "ent_coef entropy_coeff ent_coeff",
    "ess": "ess_ratio ess_frac normalized_ess",
    "staleness": "staleness_mean mean_staleness policy_lag policy_staleness",
    "staleness_max": "max_staleness",
    "step_time": "time_per_step step_time_s seconds_per_step iteration_time iter_time time/step",
    "tokens_per_second": "tokens_per_sec tokens/s tok_per_sec",
    "env_steps_per_second": "sps fps",
    "num_tokens": "total_tokens tokens_seen",
    "rewards": "sample_rewards rewards_per_sample",
    "reward_components": "rewards_per_func rewards_by_function",
    "gold_scores": "gold_rewards",
    "response_lengths": "completion_lengths response_lens lengths",
    "group_ids": "group_id groups uids uid",
    "completions": "completion responses",
    "prompts": "prompt queries",
}

PLAIN: Table = {name: tuple(words.split()) for name, words in _WORDS.items()}
