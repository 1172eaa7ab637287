"""Healthy runs that break naive detectors, one generator a trap; none of them may raise an alert."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from faults import Run, healthy, noise

TRAPS: dict[str, Callable[[int], Run]] = {}

POSITIVE = ("grad_norm", "kl", "approx_kl", "entropy", "reward_std", "advantage_std")


def trap(make: Callable[[int], Run]) -> Callable[[int], Run]:
    """Register a generator `make(seed)` under its own name."""
    TRAPS[make.__name__] = make
    return make


@trap
def learns(seed: int) -> Run:
    """The healthy run itself, over 600 rows."""
    return healthy(600, seed)


@trap
def no_spread(seed: int) -> Run:
    """Signals that move by a millionth of their value, then by a hundredth for some rows."""
    rng = np.random.default_rng(seed)
    run = healthy(300, seed)
    wiggle = np.where(np.arange(300) % 50 < 45, 1e-6, 1e-2) * rng.normal(size=300)
    return Run({name: values[-1] * (1.0 + wiggle) for name, values in run.signals.items()})


@trap
def zeros_come_and_go(seed: int) -> Run:
    """All groups tie for up to 25 rows at a time: reward and advantage spread, gradient and KL are exactly 0."""
    rng = np.random.default_rng(seed)
    run = healthy(500, seed)
    alive = np.ones(500)
    for start in rng.choice(np.arange(20, 470), size=6, replace=False):
        alive[start : start + rng.integers(3, 20)] = 0.0
    return run.having(**{name: run.signals[name] * alive for name in ("reward_std", "advantage_std", "grad_norm")})


@trap
def zeros_first(seed: int) -> Run:
    """Nothing is learnt for 40 rows (spreads, gradient and KL are 0), then the run starts."""
    run = healthy(300, seed)
    alive = (np.arange(300) >= 40).astype(np.float64)
    names = ("reward_std", "advantage_std", "grad_norm", "kl", "approx_kl")
    return run.having(**{name: run.signals[name] * alive for name in names})


@trap
def verifier_rewards(seed: int) -> Run:
    """64 rewards of 0 or 1 a row; the success rate goes from 2 % to 98 %."""
    rng = np.random.default_rng(seed)
    run = healthy(400, seed)
    rate = 1.0 / (1.0 + np.exp(-(np.arange(400) - 200.0) / 50.0))
    rewards = (rng.random((400, 64)) < rate[:, None]).astype(np.float64)
    signals = {k: v for k, v in run.signals.items() if k not in ("reward_mean", "reward_std", "gold_score")}
    return Run(signals, {"rewards": rewards})


@trap
def converges(seed: int) -> Run:
    """A task being solved: entropy .35 to .07 nats while the reward goes from .3 to .98."""
    rng = np.random.default_rng(seed)
    run = healthy(400, seed)
    gone = np.exp(-np.arange(400) / 80.0)
    reward = np.minimum(1.0, 0.98 - 0.68 * gone + rng.normal(0.0, 0.03, 400))
    spread = np.sqrt(np.maximum(0.0, reward * (1.0 - reward)))
    return run.having(
        entropy=(0.07 + 0.28 * gone) * noise(rng, 400, 0.08), reward_mean=reward, reward_std=spread, gold_score=reward
    )


@trap
def low_entropy(seed: int) -> Run:
    """An entropy of .03 nats from the start, with a noise of 30 %."""
    rng = np.random.default_rng(seed)
    return healthy(400, seed).having(entropy=0.03 * noise(rng, 400, 0.3))


@trap
def high_entropy(seed: int) -> Run:
    """An entropy that settles from 4 to 2.5 nats."""
    rng = np.random.default_rng(seed)
    entropy = (2.5 + 1.5 * np.exp(-np.arange(400) / 100.0)) * noise(rng, 400, 0.05)
    return healthy(400, seed).having(entropy=entropy)


@trap
def kl_from_nothing(seed: int) -> Run:
    """KL is 0 at the first row, 1e-6 at the next ones, and .1 in the end: five decades, all healthy."""
    rng = np.random.default_rng(seed)
    t = np.arange(400)
    return healthy(400, seed).having(kl=np.minimum(0.1, 1e-6 * 2.0 ** (t / 3.0)) * noise(rng, 400, 0.3) * (t > 0))


@trap
def cap(seed: int) -> Run:
    """Values at their cap: gradient clipped at 1, normalised advantages at 1, with a few rows below."""
    rng = np.random.default_rng(seed)
    run = healthy(300, seed)
    below = np.where(rng.random(300) < 0.05, 0.6, 1.0)
    reward = 0.2 + 0.6 * np.minimum(1.0, np.arange(300) / 200.0)
    return run.having(grad_norm=below, advantage_std=below, reward_mean=reward)


def spiked(signal: str, times: float, rows: int, seed: int, at: int = 150) -> Run:
    """The healthy run in which one signal is `times` its value for `rows` rows and then recovers."""
    run = healthy(300, seed)
    values = run.signals[signal].copy()
    values[at : at + rows] *= times
    return run.having(**{signal: values})
