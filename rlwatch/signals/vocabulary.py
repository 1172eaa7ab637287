"""Every canonical signal: its name, unit and meaning. The keys that carry them are in the alias tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["scalar", "samples", "text"]


@dataclass(frozen=True, slots=True)
class Signal:
    """A canonical quantity of one training step.

    `kind` is "scalar" (one number), "samples" (one number per sample, shape (N,)) or "text" (N strings).
    `twin` names the same quantity in the other form, the mean of an array or the array of a mean; "" if none.
    """

    name: str
    unit: str
    meaning: str
    kind: Kind = "scalar"
    twin: str = ""


_REWARD = (
    Signal("reward_mean", "reward", "Mean reward; without KL penalty if both are logged.", twin="rewards"),
    Signal("reward_std", "reward", "Standard deviation of the reward over the whole batch."),
    Signal("reward_max", "reward", "Largest reward in the batch."),
    Signal("reward_min", "reward", "Smallest reward in the batch."),
    Signal("group_reward_std", "reward", "Standard deviation of the rewards in a prompt's group, averaged."),
    Signal("frac_reward_zero_std", "fraction", "Share of groups whose rewards are equal: nothing to learn."),
    Signal("gold_score", "reward", "Mean score by the goal that the reward stands for.", twin="gold_scores"),
    Signal("reward_chosen", "reward", "Implicit reward (beta x log-ratio) of the chosen responses."),
    Signal("reward_rejected", "reward", "Implicit reward (beta x log-ratio) of the rejected responses."),
    Signal("reward_margin", "reward", "Implicit reward of chosen minus rejected responses."),
    Signal("reward_accuracy", "fraction", "Share of pairs with the higher implicit reward on the chosen."),
    Signal("score_margin", "reward", "Score of the chosen minus the rejected of two sampled responses."),
    Signal("repetition_rate", "fraction", "Share of responses that repeat themselves."),
    Signal("refusal_rate", "fraction", "Share of responses that refuse."),
    Signal("format_rate", "fraction", "Share of responses that follow the required template."),
    Signal("tool_call_rate", "calls/response", "Tool calls per response."),
    Signal("tool_failure_rate", "fraction", "Share of tool calls that failed."),
)

_RESPONSE = (
    Signal("response_length_mean", "tokens", "Mean length of the responses.", twin="response_lengths"),
    Signal("response_length_max", "tokens", "Longest sampled response."),
    Signal("response_length_min", "tokens", "Shortest sampled response."),
    Signal("truncation_rate", "fraction", "Share of responses cut at the length cap, with no end token."),
    Signal("aborted_rate", "fraction", "Share of responses that are empty because generation was aborted."),
    # Not a response length: in classical control a longer episode IS the reward.
    Signal("episode_length_mean", "env steps", "Mean length of the finished episodes."),
)

_ADVANTAGE = (
    Signal("advantage_mean", "1", "Mean advantage of the batch.", twin="advantages"),
    Signal("advantage_std", "1", "Standard deviation of the advantages (about 1 where they are normalised)."),
    Signal("advantage_max", "1", "Largest advantage in the batch."),
    Signal("advantage_min", "1", "Smallest advantage in the batch."),
)

_POLICY = (
    Signal("loss", "1", "Total loss; about 0 by construction in on-policy GRPO, so its level says little."),
    Signal("policy_loss", "1", "Policy-gradient part of the loss."),
    # Four divergences, never one name: reference, old policy, inference engine; kl_sequence is another unit.
    Signal("kl", "nats/token", "KL of the policy to the frozen reference; may be below 0 (k1)."),
    Signal("kl_sequence", "nats/response", "KL to the reference summed over a response: grows with length."),
    Signal("approx_kl", "nats/token", "KL of the sampling policy to the updated one; may be below 0 (k1)."),
    Signal("rollout_kl", "nats/token", "KL of the inference engine to the trainer, the weights being equal."),
    Signal("kl_coef", "1", "Weight of the KL penalty in the loss or the reward (beta)."),
    Signal("kl_target", "nats/token", "KL that the controller of the penalty aims at."),
    Signal("ratio", "1", "Mean probability ratio of the new to the old policy; 1 when on-policy."),
    Signal("ratio_var", "1", "Variance of the probability ratio."),
    Signal("ratio_max", "1", "Largest probability ratio."),
    Signal("ratio_min", "1", "Smallest probability ratio."),
    Signal("clip_fraction", "fraction", "Share of tokens or samples clipped; 0 when on-policy."),
    Signal("clip_range", "1", "Clipping range of the ratio (epsilon)."),
    Signal("learning_rate", "1", "Learning rate of the policy."),
    Signal("policy_step_norm", "1", "L2 norm of the change that one update made to the policy's weights."),
    Signal("update_norm", "1", "L2 norm of the change that one update made to all weights."),
    Signal("weight_norm", "1", "L2 norm of all weights."),
    Signal("logps_chosen", "nats/response", "Summed log-probability of the chosen responses."),
    Signal("logps_rejected", "nats/response", "Summed log-probability of the rejected responses."),
    Signal("logits_chosen", "1", "Mean logit on the chosen responses."),
    Signal("logits_rejected", "1", "Mean logit on the rejected responses."),
    Signal("token_accuracy", "fraction", "Share of tokens of the target that the policy ranks first."),
)

_CRITIC = (
    Signal("value_loss", "reward^2", "Loss of the value function."),
    Signal("explained_variance", "1", "1 - Var(returns - values) / Var(returns); 0: as good as their mean."),
    Signal("value_mean", "reward", "Mean predicted value.", twin="values"),
    Signal("return_mean", "reward", "Mean target of the value function.", twin="returns"),
    Signal("value_clip_fraction", "fraction", "Share of values whose update is clipped."),
    Signal("critic_grad_norm", "1", "L2 norm of the critic's gradient before clipping."),
    Signal("critic_learning_rate", "1", "Learning rate of the critic."),
    Signal("value_step_norm", "1", "L2 norm of the change that one update made to the critic's weights."),
)

_EXPLORATION = (
    Signal("entropy", "nats/token", "Policy entropy per token or action; may be below 0 if continuous."),
    Signal("sequence_nll", "nats/response", "Minus the log-probability of a response: grows with length."),
    Signal("entropy_coef", "1", "Weight of the entropy bonus."),
    Signal("action_std", "1", "Standard deviation of a Gaussian policy's actions."),
)

_FRESHNESS = (
    Signal("rollout_logprob_diff", "nats", "Mean over tokens of |log p trainer - log p inference engine|."),
    Signal("rollout_logprob_diff_max", "nats", "Largest |log p trainer - log p inference engine|."),
    Signal("rollout_prob_diff", "probability", "Mean over tokens of |p trainer - p inference engine|."),
    Signal("rollout_prob_diff_max", "probability", "Largest |p trainer - p inference engine|."),
    Signal("rollout_prob_corr", "1", "Pearson correlation of trainer and inference probabilities."),
    Signal("is_weight_mean", "1", "Mean importance weight, trainer over inference engine."),
    Signal("is_weight_min", "1", "Smallest importance weight."),
    Signal("is_weight_max", "1", "Largest importance weight."),
    Signal("is_weight_std", "1", "Standard deviation of the importance weights."),
    Signal("ess", "fraction", "Effective sample size over N: (sum w)^2 / (N sum w^2)."),
    Signal("staleness", "versions", "Mean number of policy updates since the rollouts were sampled."),
    Signal("staleness_max", "versions", "Largest number of policy updates since a rollout was sampled."),
)

_NUMERICS = (Signal("grad_norm", "1", "Global L2 norm of the policy's gradient before clipping."),)

_SYSTEM = (
    Signal("step_time", "s", "Wall time of one training step."),
    Signal("generation_time", "s", "Wall time spent sampling in one step."),
    Signal("update_time", "s", "Wall time spent in the policy update of one step."),
    Signal("tokens_per_second", "tokens/s", "Throughput (verl: per GPU)."),
    Signal("env_steps_per_second", "env steps/s", "Environment throughput, often since the start."),
    Signal("num_tokens", "tokens", "Tokens seen since the start of the run."),
    Signal("step_tokens", "tokens", "Tokens of one step."),
    Signal("env_steps", "env steps", "Environment steps since the start of the run."),
    Signal("memory_allocated", "GB", "Peak accelerator memory in tensors."),
    Signal("memory_reserved", "GB", "Peak accelerator memory held by the allocator."),
    Signal("memory_host", "GB", "Host memory in use."),
)

_SAMPLES = (
    Signal("rewards", "reward", "Reward of each sample.", "samples", "reward_mean"),
    Signal("gold_scores", "reward", "Gold score of each sample.", "samples", "gold_score"),
    Signal("reward_components", "reward", "Rewards by reward function: name -> array.", "samples"),
    Signal("advantages", "1", "Advantage of each sample.", "samples", "advantage_mean"),
    Signal("values", "reward", "Predicted value of each sample.", "samples", "value_mean"),
    Signal("returns", "reward", "Target of the value function for each sample.", "samples", "return_mean"),
    Signal("response_lengths", "tokens", "Length of each response.", "samples", "response_length_mean"),
    Signal("group_ids", "id", "Which samples answer the same prompt.", "samples"),
    Signal("completions", "text", "Sampled responses.", "text"),
    Signal("prompts", "text", "Prompts of the sampled responses.", "text"),
)

_LOOP = _REWARD + _RESPONSE + _ADVANTAGE + _POLICY + _CRITIC + _EXPLORATION + _FRESHNESS + _NUMERICS

SIGNALS: Mapping[str, Signal] = {signal.name: signal for signal in _LOOP + _SYSTEM + _SAMPLES}
