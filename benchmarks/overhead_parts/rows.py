"""Rows of a healthy, stationary run, in the names that TRL's GRPOTrainer logs."""

from __future__ import annotations

from typing import Any

import numpy as np

from overhead_parts.measure import Array

LEVELS = {
    "loss": 0.02,
    "grad_norm": 0.4,
    "learning_rate": 1e-6,
    "reward": 0.5,
    "reward_std": 0.3,
    "kl": 0.05,
    "entropy": 2.0,  # above the other package's absolute floor of 1 nat, so that it stays quiet too
    "advantage_std": 1.0,
    "completions/mean_length": 250.0,
    "completions/min_length": 20.0,
    "completions/max_length": 900.0,
    "completions/clipped_ratio": 0.1,
    "frac_reward_zero_std": 0.3,
    "clip_ratio/region_mean": 0.01,
    "sampling/sampling_logp_difference/mean": 0.01,
    "sampling/sampling_logp_difference/max": 0.3,
    "sampling/importance_sampling_ratio/mean": 1.0,
    "sampling/importance_sampling_ratio/min": 0.3,
    "num_tokens": 1e6,
    "step_time": 4.0,
}
"""Twenty scalars and their levels."""

SEVEN = ("loss", "grad_norm", "reward", "reward_std", "kl", "entropy", "advantage_std")
"""The scalars that the other package takes."""


def scalars(count: int, names: tuple[str, ...] = tuple(LEVELS), seed: int = 0) -> list[dict[str, Any]]:
    """`count` rows of floats: log-normal noise of 20 % around each level."""
    rng = np.random.default_rng(seed)
    noise = np.exp(0.2 * rng.standard_normal((count, len(names))))
    levels = np.array([LEVELS[name] for name in names])
    return [dict(zip(names, row, strict=True)) for row in (noise * levels).tolist()]


def rewards(count: int, size: int, seed: int = 1) -> list[Array]:
    """`count` batches of `size` continuous rewards, so that the dip test has work."""
    return list(np.random.default_rng(seed).normal(0.5, 0.3, (count, size)))
