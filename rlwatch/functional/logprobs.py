"""Divergence, clipping and importance weights, from log-probabilities of the sampled tokens or actions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rlwatch.functional.reduce import check_shape, masked_mean, wide

Estimator = Literal["k1", "k2", "k3"]


@torch.no_grad()
def kl_from_logprobs(
    logp_new: Tensor, logp_old: Tensor, mask: Tensor | None = None, estimator: Estimator = "k3"
) -> Tensor:
    """Monte Carlo estimate of `KL(old || new)` from samples of `old`, mean per token, in nats.

    With `d = logp_new - logp_old` (Schulman 2020, joschu.net/blog/kl-approx.html):

    - k1: `-d`. Unbiased, noisy, may be negative. CleanRL's `old_approx_kl`, verl's `actor/ppo_kl`.
    - k2: `d**2 / 2`. Biased, low variance. TRL's PPO `policy/approxkl_avg`.
    - k3: `exp(d) - 1 - d`. Unbiased, low variance, never negative, but its tail grows as exp(d). `approx_kl`
      of Stable-Baselines3 and CleanRL, `kl` of TRL's GRPO.

    The direction is always from the distribution that was sampled. For `approx_kl` pass the updated and the
    rollout policy; for `KL(policy || reference)`, on samples of the policy, pass the reference as `logp_new`
    and the policy as `logp_old`.

    Args:
        logp_new, logp_old: log-probabilities of the same samples, any one shape.
        mask: same shape, the tokens to count.
        estimator: "k1", "k2" or "k3".

    Returns:
        A 0-d tensor. +inf for k3 when `d` is above about 88 in float32.

    Raises:
        ValueError: shapes that differ, or an unknown estimator.
    """
    check_shape("logp_old", logp_old, logp_new.shape)
    d = wide(logp_new) - wide(logp_old)
    match estimator:
        case "k1":
            kl = -d
        case "k2":
            kl = d.square() / 2
        case "k3":
            kl = (torch.expm1(d) - d).clamp_min(0)  # rounding may leave -1e-12
        case _:
            raise ValueError(f"estimator must be 'k1', 'k2' or 'k3', got {estimator!r}")
    return masked_mean(kl, mask)


@torch.no_grad()
def clip_fraction(
    logp_new: Tensor,
    logp_old: Tensor,
    clip: float | tuple[float, float],
    mask: Tensor | None = None,
    advantages: Tensor | None = None,
) -> Tensor:
    """Share of samples whose ratio `r = exp(logp_new - logp_old)` is outside PPO's clip range, 0 to 1.

    Without advantages, `mean(|r - 1| > clip)`: how far the policy moved (`clip_fraction` of Stable-Baselines3
    and CleanRL). With advantages, the share where the clip is active, that is where the sample has no
    gradient: `A > 0 and r > 1 + high` or `A < 0 and r < 1 - low` (Schulman et al. 2017, arXiv:1707.06347, eq.
    7; TRL's `clip_ratio/region_mean`, `pg_clipfrac` of verl). The second is at most the first: they are not
    comparable.

    Args:
        logp_new, logp_old: log-probabilities of the same samples, any one shape.
        clip: epsilon, or (low, high) for a range that is not symmetric (DAPO's clip-higher,
            arXiv:2503.14476).
        mask: same shape, the tokens to count.
        advantages: same shape, or without the last dimension (one for each sequence).

    Returns:
        A 0-d tensor.

    Raises:
        ValueError: shapes that do not fit, or a negative clip.
    """
    check_shape("logp_old", logp_old, logp_new.shape)
    low, high = clip if isinstance(clip, tuple) else (clip, clip)
    if low < 0 or high < 0:
        raise ValueError(f"clip must not be negative, got {clip}")
    move = torch.expm1(wide(logp_new) - wide(logp_old))
    above, below, broken = move > high, move < -low, move.isnan()
    if advantages is not None:
        if advantages.dim() == logp_new.dim() - 1:
            advantages = advantages.unsqueeze(-1).expand_as(logp_new)
        check_shape("advantages", advantages, logp_new.shape)
        above, below = above & (advantages > 0), below & (advantages < 0)
        broken = broken | advantages.isnan()
    # A comparison with NaN is False: without this what is broken would count as not clipped.
    return masked_mean((above | below).to(move.dtype).where(~broken, torch.nan), mask)


@torch.no_grad()
def effective_sample_size(
    log_weights: Tensor | None = None, mask: Tensor | None = None, *, weights: Tensor | None = None
) -> Tensor:
    """Effective share of the samples under importance weights: `ESS / N = (sum w)^2 / (N sum w^2)`.

    1 when all weights are equal, 1/N when one sample carries everything; multiply by N for the count. Kish
    (1965); verl's `rollout_corr/rollout_is_eff_sample_size`. Computed from logarithms, so that no weight can
    overflow.

    Args:
        log_weights: any shape, such as `logp_train - logp_rollout` (mind the truncation of weights, if any).
        mask: same shape, the samples to count.
        weights: the weights themselves (>= 0), in place of `log_weights`.

    Returns:
        A 0-d tensor. NaN if every weight is 0, one is infinite, or one is negative.

    Raises:
        ValueError: both or none of `log_weights` and `weights` are given, or a wrong mask shape.
    """
    if log_weights is not None and weights is None:
        log_w = wide(log_weights)
    elif weights is not None and log_weights is None:
        log_w = wide(weights).log()
    else:
        raise ValueError("pass either log_weights or weights")
    check_shape("mask", mask, log_w.shape)
    selected = torch.ones_like(log_w, dtype=torch.bool) if mask is None else mask != 0
    log_w = log_w.where(selected, -torch.inf).flatten()
    first, second = torch.logsumexp(log_w, dim=0), torch.logsumexp(2 * log_w, dim=0)
    return (torch.exp(2 * first - second) / selected.sum()).clamp_max(1)
