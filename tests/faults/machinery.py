"""The faults of the update, the critic, the exploration, the engine and the machine."""

from __future__ import annotations

import numpy as np

from faults.runs import Signals, around, correlated, learning, overlay, since

TARGET = 0.1
"""KL that the controller of `controlled` aims at, nats a token."""


@overlay("clip_fraction", delay=18)
def braking(seed: int = 0, onset: int = 100, level: float = 0.7, kl: float = 0.01) -> Signals:
    """From `onset` on the update is too large: the clip fraction rises within 10 rows from .05 to `level`."""
    rng = np.random.default_rng(seed)
    share = np.clip((np.arange(300) - onset) / 10.0, 0.0, 1.0)
    clipped = np.minimum(1.0, around(0.05, rng, 300) * (1.0 - share) + level * share)
    return {
        "clip_fraction": clipped,
        "approx_kl": around(0.01, rng, 300) * (1.0 - share) + kl * share,
        "reward_mean": 0.5 + rng.normal(0.0, 0.05, 300),
    }


@overlay("kl_controller", delay=95)
def controlled(
    rows: int = 400,
    seed: int = 0,
    onset: int = 10_000,
    rate: float = 0.02,
    gain: float = 0.05,
    lag: float = 0.2,
    sigma: float = 0.3,
    phi: float = 0.0,
    most: float = 1e9,
) -> Signals:
    """A loop of policy and controller: KL follows 1 / coefficient with a lag, the coefficient follows KL.

    The controller is Ziegler et al.'s with `gain` samples / horizon; above `most` it is cut off. From `onset` on the
    policy drifts away by `rate` a row whatever the penalty.
    """
    rng = np.random.default_rng(seed)
    noise = np.exp(correlated(rng, rows, sigma, phi) if phi else rng.normal(0.0, sigma, rows))
    coef, kl, pull = 0.2, TARGET, 1.0
    coefs, kls = np.empty(rows), np.empty(rows)
    for row in range(rows):
        pull *= 1.0 + (rate if row >= onset else 0.0)
        kl += lag * (TARGET * 0.2 / coef * pull * pull - kl)
        coefs[row], kls[row] = coef, kl * noise[row]
        coef = min(most, coef * (1.0 + gain * float(np.clip(kls[row] / TARGET - 1.0, -0.2, 0.2))))
    return {"kl": kls, "kl_coef": coefs, "kl_target": TARGET}


@overlay("entropy_explosion", delay=14)
def entropy_explosion(
    strength: float = 1.0, seed: int = 0, onset: int = 100, rows: int = 300, fall: bool = True
) -> Signals:
    """Entropy doubles every 2 / strength rows, up to 8 nats; with `fall` the reward goes to nothing in 10 rows."""
    run = learning(rows, seed)
    t = since(rows, onset) * strength
    run["entropy"] = np.minimum(run["entropy"] * 2.0 ** np.minimum(t / 2.0, 40.0), np.maximum(8.0, run["entropy"]))
    if fall:
        run["reward_mean"] = run["reward_mean"] * np.maximum(0.02, 1.0 - t / 10.0)
    return run


@overlay("value_failure", delay=60, loss=4.0)
def critic(seed: int = 0, onset: int = 10_000, rows: int = 300, explained: float = -0.6, loss: float = 1.0) -> Signals:
    """A critic that learns from its first rows on; from `onset` on it is lost, and its loss `loss` times as large."""
    rng = np.random.default_rng(seed)
    lost = np.arange(rows) >= onset
    learnt = 0.8 - 1.8 * np.exp(-np.arange(rows) / 5.0)
    return {
        "explained_variance": np.where(lost, explained, learnt) + rng.normal(0.0, 0.1, rows),
        "value_loss": around(0.2, rng, rows) * (1.0 + 4.0 * np.exp(-np.arange(rows) / 10)) * np.where(lost, loss, 1.0),
        "reward_mean": 0.5 + rng.normal(0.0, 0.03, rows),
    }


@overlay("update_imbalance", delay=8, policy=20.0)
def step_norms(seed: int = 0, onset: int = 100, policy: float = 1.0, value: float = 1.0, rows: int = 300) -> Signals:
    """Step norms of policy and critic; from `onset` on they are `policy` and `value` times what they were."""
    rng = np.random.default_rng(seed)
    late = np.arange(rows) >= onset
    return {
        "policy_step_norm": around(1e-3, rng, rows, 0.2) * np.where(late, policy, 1.0),
        "value_step_norm": around(5e-3, rng, rows, 0.2) * np.where(late, value, 1.0),
    }


ENGINE = {
    "rollout_prob_diff": 0.003, "rollout_logprob_diff": 0.008, "rollout_kl": 5e-4, "is_weight_mean": 1.0, "ess": 0.9,
}  # fmt: skip
"""Levels of healthy runs."""


@overlay("rollout_mismatch", delay=21, onset=60)
def mismatch(signal: str = "rollout_prob_diff", level: float = 0.2, seed: int = 0, onset: int = 60) -> Signals:
    """All signals at the levels of healthy runs; one of them leaves for `level` at `onset`."""
    rng = np.random.default_rng(seed)
    run = {name: around(value, rng, 200, 0.05) for name, value in ENGINE.items()}
    run[signal][onset:] = around(level, rng, 200 - onset, 0.05)
    return run


@overlay("staleness", delay=35)
def queue(seed: int = 0, onset: int = 100, age: float = 20.0, usual: float = 2.0) -> Signals:
    """An asynchronous loop that fills its queue at first; from `onset` on the rollouts are `age` versions old."""
    rng = np.random.default_rng(seed)
    t = np.arange(300)
    level = np.where(t < onset, np.minimum(usual, t / 5.0), age)
    return {"staleness": level * around(1.0, rng, 300, 0.2)}


@overlay("frozen_weights", delay=20)
def training(seed: int = 0, onset: int = 10_000, update: float = 0.0) -> Signals:
    """A run that trains; from `onset` on an update moves the weights by `update` though gradients arrive."""
    rng = np.random.default_rng(seed)
    return {
        "update_norm": np.where(np.arange(300) < onset, around(1e-3, rng, 300), update),
        "weight_norm": np.full(300, 100.0),
        "grad_norm": around(0.5, rng, 300),
        "reward_std": around(0.3, rng, 300),
        "learning_rate": np.full(300, 1e-6),
    }


@overlay("throughput", delay=15, onset=200)
def slow_steps(seed: int = 0, onset: int = 200, times: float = 4.0, rows: int = 400) -> Signals:
    """Steps of ten seconds; from `onset` on they take `times` as long."""
    rng = np.random.default_rng(seed)
    return {"step_time": around(10.0, rng, rows, 0.1) * np.where(np.arange(rows) >= onset, times, 1.0)}
