"""The faults of the eight core detectors. Strength 1 is the textbook case; smaller is weaker or slower."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from faults.runs import Run, fading, fault, healthy, noise, since, stuck


@fault("entropy_collapse", delay=40)
def entropy_collapse(strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 300) -> Run:
    """Entropy falls to a hundredth with a half-life of 4 / strength rows while the reward stops rising."""
    run = healthy(rows, seed)
    left = np.maximum(0.01, 0.5 ** (since(rows, onset) * strength / 4.0))
    return replace(run.having(entropy=run.signals["entropy"] * left, reward_mean=stuck(run, onset, seed)), onset=onset)


@fault("entropy_collapse", delay=15)
def entropy_to_zero(strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 300) -> Run:
    """Entropy falls to exactly 0 within 4 / strength rows."""
    run = healthy(rows, seed)
    left = fading(rows, onset, strength)
    return replace(run.having(entropy=run.signals["entropy"] * left, reward_mean=stuck(run, onset, seed)), onset=onset)


@fault("kl_explosion", delay=8)
def kl_explosion(strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 300) -> Run:
    """KL to the reference rises within 4 rows by 3 x strength nats per token and stays there."""
    run = healthy(rows, seed)
    rise = 3.0 * strength * np.minimum(1.0, since(rows, onset) / 4.0)
    jitter = noise(np.random.default_rng(seed + 1), rows, 0.2)
    return replace(run.having(kl=run.signals["kl"] + rise * jitter, reward_mean=stuck(run, onset, seed)), onset=onset)


@fault("kl_explosion", delay=215)
def kl_exponential(strength: float = 1.0, seed: int = 0, onset: int = 0, rows: int = 500) -> Run:
    """KL starts at .001 and doubles every 20 / strength rows from `onset` on (.1 after 133 rows, 1 after 200)."""
    run = healthy(rows, seed)
    jitter = noise(np.random.default_rng(seed + 1), rows, 0.2)
    return replace(run.having(kl=1e-3 * 2.0 ** (since(rows, onset) * strength / 20.0) * jitter), onset=onset)


@fault("kl_explosion", delay=1500)
def kl_linear(strength: float = 1.0, seed: int = 0, onset: int = 0, rows: int = 2000) -> Run:
    """KL rises in a straight line from .01 to strength nats per token over 2,000 rows."""
    run = healthy(rows, seed)
    jitter = noise(np.random.default_rng(seed + 1), rows, 0.2)
    return replace(run.having(kl=(0.01 + strength * since(rows, onset) / 2000.0) * jitter), onset=onset)


@fault("reward_variance_explosion", delay=8)
def reward_variance_explosion(strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 300) -> Run:
    """The reward's standard deviation is 20 x strength what it was."""
    run = healthy(rows, seed)
    times = np.where(since(rows, onset) > 0.0, 20.0 * strength, 1.0)
    return replace(run.having(reward_std=run.signals["reward_std"] * times), onset=onset)


@fault("reward_variance_explosion", delay=110)
def reward_std_to_zero(strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 300) -> Run:
    """Within 4 / strength rows all rewards become equal, and poor: the spread goes to 0, the mean to a third."""
    run = healthy(rows, seed)
    left = fading(rows, onset, strength)
    std = run.signals["reward_std"] * left
    reward = run.signals["reward_mean"] * (1.0 + 2.0 * left) / 3.0
    return replace(run.having(reward_std=std, reward_mean=reward), onset=onset)


@fault("reward_bimodality", delay=40)
def reward_bimodality(
    strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 300, samples: int = 64
) -> Run:
    """Continuous rewards split into two equal heaps, 8 x strength of their standard deviations apart."""
    run = healthy(rows, seed, samples)
    rng = np.random.default_rng(seed + 1)
    apart = 8.0 * strength * run.signals["reward_std"][:, None] * (since(rows, onset) > 0.0)[:, None]
    rewards = run.samples["rewards"] + apart * (rng.random((rows, samples)) < 0.5)
    signals = {k: v for k, v in run.signals.items() if k not in ("reward_mean", "reward_std")}
    return Run(signals, {**run.samples, "rewards": rewards}, onset)


@fault("reward_drift", delay=300)
def reward_drift_down(strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 500) -> Run:
    """The mean reward falls in a straight line by .6 x strength over 300 rows, under noise of .04 a row."""
    run = healthy(rows, seed)
    fall = 0.6 * strength * np.minimum(300.0, since(rows, onset)) / 300.0
    return replace(run.having(reward_mean=stuck(run, onset, seed) - fall), onset=onset)


@fault("reward_drift", delay=300)
def reward_up_gold_down(strength: float = 1.0, seed: int = 0, onset: int = 0, rows: int = 400) -> Run:
    """The reward rises by .6 over 400 rows, the gold score falls by .4 x strength: the proxy is being exploited."""
    run = healthy(rows, seed)
    rng = np.random.default_rng(seed + 1)
    share = since(rows, onset) / rows
    reward = 0.2 + 0.6 * share + rng.normal(0.0, 0.03, rows)
    gold = 0.3 - 0.4 * strength * share + rng.normal(0.0, 0.02, rows)
    return replace(run.having(reward_mean=reward, gold_score=gold), onset=onset)


@fault("reward_drift", delay=300)
def reward_up_with_length(strength: float = 1.0, seed: int = 0, onset: int = 0, rows: int = 400) -> Run:
    """The reward rises by .6 over 400 rows, the gold score not, while responses grow to 1 + 2 x strength times."""
    run = healthy(rows, seed)
    rng = np.random.default_rng(seed + 1)
    share = since(rows, onset) / rows
    length = 200.0 * (1.0 + 2.0 * strength * share) * noise(rng, rows, 0.03)
    reward = 0.2 + 0.6 * share + rng.normal(0.0, 0.03, rows)
    gold = 0.3 + rng.normal(0.0, 0.02, rows)
    return replace(run.having(reward_mean=reward, response_length_mean=length, gold_score=gold), onset=onset)


@fault("advantage_spike", delay=8)
def advantage_spike(strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 300) -> Run:
    """The standard deviation of the advantages is 20 x strength what it was."""
    run = healthy(rows, seed)
    times = np.where(since(rows, onset) > 0.0, 20.0 * strength, 1.0)
    return replace(run.having(advantage_std=run.signals["advantage_std"] * times), onset=onset)


@fault("advantage_spike", delay=110)
def advantage_to_zero(strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 300) -> Run:
    """The standard deviation of the advantages falls to exactly 0 within 4 / strength rows."""
    run = healthy(rows, seed)
    left = fading(rows, onset, strength)
    return replace(run.having(advantage_std=run.signals["advantage_std"] * left), onset=onset)


@fault("loss_nonfinite", delay=0)
def loss_nan(strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 200) -> Run:
    """The loss is NaN at one row, and at strength 1 at every row after it."""
    return _dead("loss", math.nan, strength, seed, onset, rows)


@fault("loss_nonfinite", delay=0)
def gradient_inf(strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 200) -> Run:
    """The gradient norm is infinite at one row, and at strength 1 at every row after it."""
    return _dead("grad_norm", math.inf, strength, seed, onset, rows)


def _dead(name: str, value: float, strength: float, seed: int, onset: int, rows: int) -> Run:
    run = healthy(rows, seed)
    values = run.signals[name].copy()
    values[onset : rows if strength >= 1.0 else onset + 1] = value
    return replace(run.having(**{name: values}), onset=onset)


@fault("gradient_spike", delay=10)
def gradient_explosion(strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 300) -> Run:
    """The gradient norm is 100 x strength what it was, and stays there."""
    run = healthy(rows, seed)
    times = np.where(since(rows, onset) > 0.0, 100.0 * strength, 1.0)
    return replace(run.having(grad_norm=run.signals["grad_norm"] * times), onset=onset)


@fault("gradient_spike", delay=100)
def gradient_growth(strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 300) -> Run:
    """The gradient norm doubles every 10 / strength rows."""
    run = healthy(rows, seed)
    growth = 2.0 ** np.minimum(300.0, since(rows, onset) * strength / 10.0)
    return replace(run.having(grad_norm=run.signals["grad_norm"] * growth), onset=onset)


@fault("gradient_spike", delay=110)
def gradient_to_zero(strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 300) -> Run:
    """The gradient norm falls to exactly 0 within 4 / strength rows."""
    run = healthy(rows, seed)
    left = fading(rows, onset, strength)
    return replace(run.having(grad_norm=run.signals["grad_norm"] * left), onset=onset)
