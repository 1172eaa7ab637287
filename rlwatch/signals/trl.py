"""TRL's keys: GRPO, RLOO, GMPO, AsyncGRPO, DPO, KTO, OnlineDPO (1.16), PPO (until 1.12; another until 0.11).

Reward functions (`rewards/<name>/mean`, older `rewards/<name>`) are no canonical signals and are not listed.
"""

from __future__ import annotations

from rlwatch.signals.alias import Alias, Beside, Table

TRL: Table = {
    # objective/rlhf_reward holds the KL penalty as well: it speaks only where there is no score.
    "reward_mean": (
        "objective/scores",
        "reward",
        "env/reward_mean",
        "ppo/mean_scores",
        "objective/rlhf_reward",
    ),
    "reward_std": ("env/reward_std", "ppo/std_scores"),
    "reward_chosen": ("rewards/chosen",),
    "reward_rejected": ("rewards/rejected",),
    "reward_margin": ("rewards/margins",),
    "reward_accuracy": ("rewards/accuracies",),
    "score_margin": ("objective/scores_margin",),
    "logps_chosen": ("logps/chosen",),
    "logps_rejected": ("logps/rejected",),
    "logits_chosen": ("logits/chosen",),
    "logits_rejected": ("logits/rejected",),
    "token_accuracy": ("mean_token_accuracy",),
    "tool_call_rate": ("tools/call_frequency",),
    "tool_failure_rate": ("tools/failure_frequency",),
    "response_length_mean": ("completions/mean_length", "completion_length", "tokens/responses_len_mean"),
    "response_length_max": ("completions/max_length",),
    "response_length_min": ("completions/min_length",),
    "truncation_rate": ("completions/clipped_ratio", Alias("val/contain_eos_token", -1.0, 1.0)),
    "advantage_mean": ("ppo/policy/advantages_mean",),
    "loss": ("ppo/loss/total",),
    "policy_loss": ("loss/policy_avg", "ppo/loss/policy"),
    # Sums over the tokens of a response, so neither may be read as a value per token.
    "kl_sequence": ("objective/kl",),
    "sequence_nll": ("objective/entropy",),
    "approx_kl": ("policy/approxkl_avg", "ppo/policy/approxkl"),
    "kl_coef": ("beta", "objective/kl_coef"),
    "ratio": ("val/ratio",),
    "ratio_var": ("val/ratio_var",),
    "clip_fraction": (
        "clip_ratio/region_mean",
        "cispo_clip_ratio",
        "clip_ratio",
        "policy/clipfrac_avg",
        "ppo/policy/clipfrac",
    ),
    "learning_rate": ("lr", "ppo/learning_rate"),
    "value_loss": ("loss/value_avg", "ppo/loss/value"),
    "value_clip_fraction": ("val/clipfrac_avg", "ppo/val/clipfrac"),
    "explained_variance": ("ppo/val/var_explained",),
    "value_mean": ("ppo/val/mean", "ppo/val/vpred"),
    "return_mean": ("ppo/returns/mean",),
    "entropy": ("policy/entropy_avg", "ppo/policy/entropy"),
    "rollout_logprob_diff": ("sampling/sampling_logp_difference/mean",),
    "rollout_logprob_diff_max": ("sampling/sampling_logp_difference/max",),
    "is_weight_mean": ("sampling/importance_sampling_ratio/mean",),
    "is_weight_min": ("sampling/importance_sampling_ratio/min",),
    "is_weight_max": ("sampling/importance_sampling_ratio/max",),
    "staleness": ("sample/staleness_mean",),
    "staleness_max": ("sample/staleness_max",),
    "step_time": ("perf/step_s", "time/ppo/total"),
    "tokens_per_second": ("perf/trained_tok_s_wall_clock",),
    "step_tokens": ("batch/trained_tokens_per_step",),
}

_ASYNC_GRPO = ("sample/staleness_mean", "batch/microbatches_per_step")
_KTO = ("rewards/margins", "rewards/chosen", "rewards/rejected")

BESIDE: tuple[Beside, ...] = (
    # GRPO and RLOO log the KL to the reference under this key, AsyncGRPO that of the old to the new policy,
    # KTO the log-ratio to the reference summed over a completion.
    Beside("kl", _ASYNC_GRPO, "approx_kl"),
    Beside("kl", _KTO, "kl_sequence"),
    Beside("reward_std", _ASYNC_GRPO, "group_reward_std"),
)
