"""Simulated runs that are healthy by construction: every alert on one of them is a false alarm.

Levels, tails and shapes are those of real healthy runs (the playbook and the detectors quote the figures): noise is
log-normal and autocorrelated, gradients spike by 10-1000x in 3 rows of 1,000, GRPO groups tie for stretches of rows,
entropy falls while the reward rises, KL rises from zero, a critic learns, checkpoints take time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlwatch.intake import derive
from rlwatch.observation import Observation

Array = npt.NDArray[np.float64]

SPIKES = 0.003  # a row: 2.9 in 1,000 rows of healthy language-model runs are above ten times the median
TIED = 0.36  # rows in which all groups tie, in the median healthy GRPO run; the longest stretch found is 25
GOLD_EVERY = 10
STEPS_EVERY = 5  # rows between two measurements of the update norms
FAST = 200.0  # rows after which a fast learner is at 63 % of its gain


@dataclass(frozen=True)
class Condition:
    """A kind of healthy run.

    Attributes:
        algorithm: grpo, ppo or classic: which signals there are, and the preset that judges them.
        tail: sigma of log grad_norm and log KL; spreads have half of it, the entropy and the speed a third.
        phi: lag-1 correlation of all noise.
        trend: steady, fast (learns within some hundred rows and stays there) or slow (over the whole run).
        rewards: "" (means only), "0/1" or "Gaussian" rewards of each sample, `group` a row.
        spikes: single rows of a huge gradient norm.
        tied: stretches of rows in which all groups tie.
    """

    algorithm: str = "grpo"
    tail: float = 0.3
    phi: float = 0.5
    trend: str = "slow"
    rewards: str = ""
    group: int = 0
    spikes: bool = False
    tied: bool = False

    @property
    def name(self) -> str:
        """How the tables call it."""
        words = [self.algorithm, f"tail {self.tail:g}", f"phi {self.phi:g}", self.trend]
        words += [word for word in ("spikes", "tied") if getattr(self, word)]
        return " ".join(words + ([f"{self.group} {self.rewards} rewards"] if self.rewards else []))


GRID = tuple(
    Condition(algorithm, tail, phi, trend)
    for algorithm, trend in (("grpo", "steady"), ("grpo", "slow"), ("ppo", "fast"), ("classic", "slow"))
    for tail in (0.3, 0.6)
    for phi in (0.0, 0.5, 0.9)
)
SPECIAL = (
    Condition(trend="steady", spikes=True),
    Condition(spikes=True, tail=0.6),
    Condition(trend="fast", tied=True),
    Condition(trend="fast", rewards="0/1", group=8),
    Condition(trend="slow", rewards="0/1", group=64),
    Condition("ppo", trend="slow", rewards="Gaussian", group=64),
    Condition("classic", trend="fast", tail=0.6),
)
CONDITIONS = GRID + SPECIAL


def noise(rng: np.random.Generator, count: int, rows: int, phi: float) -> Iterator[Array]:
    """`count` independent AR(1) series of unit variance, each of shape (rows,)."""
    shocks = rng.standard_normal((rows, count))
    shocks[1:] *= np.sqrt(1.0 - phi * phi)
    for row in range(1, rows):
        shocks[row] += phi * shocks[row - 1]
    return iter(shocks.T)


def columns(condition: Condition, rows: int, rng: np.random.Generator) -> dict[str, Array]:
    """A run by canonical names: scalars of shape (rows,), NaN where a row has none; arrays of shape (rows, n)."""
    z = noise(rng, 40, rows, condition.phi)
    time = np.arange(rows)
    span = {"steady": np.inf, "fast": FAST, "slow": max(rows, 1000) / 5}[condition.trend]
    done = np.full(rows, 0.5) if condition.trend == "steady" else 1.0 - np.exp(-time / span)
    make = _classic if condition.algorithm == "classic" else _language
    run = {**make(condition, z, done), **_machine(condition, z, time)}
    if condition.spikes:
        at = rng.random(rows) < SPIKES
        run["grad_norm"][at] *= 10 ** rng.uniform(1, 3, at.sum())
    if condition.tied:
        latent = next(noise(rng, 1, rows, 0.8))  # so that ties come in stretches, the longest about 25 rows
        tied = latent > np.quantile(rng.standard_normal(10_000), 1 - TIED)
        for name in ("grad_norm", "reward_std", "advantage_std"):
            run[name][tied] = 0.0
        run["frac_reward_zero_std"][tied] = 1.0
    if condition.rewards:
        _add_samples(condition, run, rng)
    return run


def _language(condition: Condition, z: Iterator[Array], done: Array) -> dict[str, Array]:
    """Post-training of a language model."""
    tail, learns = condition.tail, condition.trend != "steady"
    reward = np.clip(0.1 + 0.85 * done + 0.05 * next(z), 0.0, 1.0)
    run = {
        "loss": 0.02 * next(z),
        "grad_norm": 0.4 * np.exp(tail * next(z)),
        "kl": (0.1 * done if learns else 0.06) * np.exp(tail * next(z)),
        "entropy": 0.35 * np.exp(-1.6 * done + tail / 3 * next(z)),
        "reward_mean": reward,
        "reward_std": 0.25 * np.exp(tail / 2 * next(z)),
        "frac_reward_zero_std": np.clip(0.2 + 0.4 * done + 0.1 * next(z), 0.0, 0.95),
        "advantage_std": np.exp(tail / 2 * next(z)),
        "response_length_mean": 250 * (1 + 0.2 * done) * np.exp(0.05 * next(z)),
        "truncation_rate": np.clip(0.03 + 0.02 * next(z), 0.0, 1.0),
        "clip_fraction": np.clip(0.06 * np.exp(tail * next(z)), 0.0, 1.0),
        "gold_score": _every(GOLD_EVERY, 0.1 + 0.6 * done + 0.03 * next(z)),
        "repetition_rate": np.clip(0.03 * np.exp(tail * next(z)), 0.0, 1.0),
        "refusal_rate": np.clip(0.01 * np.exp(tail * next(z)), 0.0, 1.0),
        "format_rate": np.clip(0.6 + 0.35 * done + 0.03 * next(z), 0.0, 1.0),
        "rollout_prob_diff": 0.003 * np.exp(tail * next(z)),
        "rollout_kl": 5e-4 * np.exp(tail * next(z)),
        "is_weight_mean": 1.0 + 0.02 * next(z),
        "ess": np.clip(0.9 + 0.03 * next(z), 0.0, 1.0),
        "staleness": 1.0 + 0.3 * np.abs(next(z)),
    }
    if condition.algorithm == "ppo":
        run |= _critic(condition, z, done, reward, scale=1.0)
        run["kl_target"] = np.full(done.size, 0.1)
        run["kl_coef"] = 0.05 * np.exp(0.3 * done)  # settles with the KL
    return run


def _classic(condition: Condition, z: Iterator[Array], done: Array) -> dict[str, Array]:
    """Classical control: returns over orders of magnitude, differential entropy, a gradient that grows with them."""
    tail, grown = condition.tail, 1.0 + 20.0 * done
    reward = -1400 + 1250 * done + 40 * next(z)
    run = {
        "loss": 25 * grown * np.exp(tail * next(z)),
        "policy_loss": 0.01 * next(z),
        "approx_kl": 0.01 * np.exp(tail * next(z)),
        "clip_fraction": np.clip(0.1 * np.exp(tail * next(z)), 0.0, 1.0),
        "entropy": 1.4 - 1.6 * done + 0.05 * next(z),
        "reward_mean": reward,
        "grad_norm": 0.5 * grown**0.5 * np.exp(tail * next(z)),
        "episode_length_mean": 200 * grown,
        "action_std": 1.0 - 0.6 * done,
    }
    return {**run, **_critic(condition, z, done, reward, scale=50.0)}


def _critic(condition: Condition, z: Iterator[Array], done: Array, reward: Array, scale: float) -> dict[str, Array]:
    """A critic that is worse than the mean in the first rows and learns; single rows explain nothing."""
    tail = condition.tail
    explained = np.clip(0.3 + 0.5 * done + 0.15 * next(z), -1.0, 1.0)
    explained[:3] = (-1.0, -0.5, 0.0)
    explained[97::97] = np.nan
    return {
        "explained_variance": explained,
        "value_loss": scale * (1 + 5 * done) * np.exp(tail * next(z)),
        "value_mean": reward * (0.6 + 0.35 * done),
        "return_mean": reward,
        "policy_step_norm": _every(STEPS_EVERY, 1e-3 * np.exp(tail * next(z))),
        "value_step_norm": _every(STEPS_EVERY, 3e-3 * np.exp(tail * next(z))),
    }


def _machine(condition: Condition, z: Iterator[Array], time: Array) -> dict[str, Array]:
    """Rates, updates, speed and memory: a warm-up and a cosine decay, checkpoints, an allocator that fills."""
    warm = np.minimum(1.0, (time + 1) / 50)
    rate = 1e-6 * warm * (0.55 + 0.45 * np.cos(np.pi * time / time.size))
    spent = 10 * np.exp(condition.tail / 3 * next(z))
    spent[99::100] *= 4.0
    return {
        "learning_rate": rate,
        "update_norm": _every(STEPS_EVERY, 1e-2 * rate / 1e-6 * np.exp(condition.tail / 2 * next(z))),
        "weight_norm": _every(STEPS_EVERY, 900.0 + 1e-3 * time),
        "step_time": spent,
        "memory_allocated": 60.0 + 2.0 * (1.0 - np.exp(-time / 100.0)) + 0.05 * np.abs(next(z)),
    }


def _every(rows: int, values: Array) -> Array:
    """The values of each `rows`-th row, NaN in between."""
    return np.where(np.arange(values.size) % rows == 0, values, np.nan)


def _add_samples(condition: Condition, run: dict[str, Array], rng: np.random.Generator) -> None:
    """Rewards of each sample, and the advantages that GRPO makes of them; the means follow from them."""
    success = run["reward_mean"]
    shape = (success.size, condition.group)
    if condition.rewards == "0/1":
        rewards = (rng.random(shape) < success[:, None]).astype(np.float64)
    else:
        rewards = success[:, None] + 0.25 * rng.standard_normal(shape)
    for name in ("reward_mean", "reward_std", "advantage_std", "frac_reward_zero_std"):
        del run[name]
    run["rewards"] = rewards
    run["advantages"] = (rewards - rewards.mean(1, keepdims=True)) / (rewards.std(1, ddof=1, keepdims=True) + 1e-4)


def observations(condition: Condition, rows: int, seed: int) -> Iterator[Observation]:
    """The run row by row; the same for the same condition, length and seed."""
    run = columns(condition, rows, np.random.default_rng([CONDITIONS.index(condition), rows, seed]))
    scalars = {name: values.tolist() for name, values in run.items() if values.ndim == 1}
    samples: dict[str, Any] = {name: values for name, values in run.items() if values.ndim == 2}
    for row in range(rows):
        obs = Observation(row, row, 0.0)
        signals = obs.signals
        for name, values in scalars.items():
            x = values[row]
            if x == x:
                signals[name] = x
        if condition.algorithm != "grpo" and row % 97 == 0 and row:
            obs.nonfinite["explained_variance"] = float("nan")
        if samples:
            obs.samples = {name: values[row] for name, values in samples.items()}
            derive(obs)
        yield obs
