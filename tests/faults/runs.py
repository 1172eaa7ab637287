"""What a synthetic training run is, the registry of the faults, and a healthy run to set a fault into."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rlwatch.intake import derive
from rlwatch.observation import Observation

Array = npt.NDArray[np.float64]
Signals = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """Signals by canonical name, shape (rows,), and sample arrays, shape (rows, n); the fault begins at row `onset`."""

    signals: dict[str, Array]
    samples: dict[str, Array] = field(default_factory=dict)
    onset: int = 0

    def __len__(self) -> int:
        return len(next(iter((self.signals or self.samples).values())))

    def having(self, **signals: Array) -> Run:
        """The run with some signals replaced or added."""
        return replace(self, signals={**self.signals, **signals})

    def only(self, *names: str) -> Run:
        """The run with these signals and sample arrays and no others."""
        keep = set(names)
        signals = {name: values for name, values in self.signals.items() if name in keep}
        return replace(self, signals=signals, samples={k: v for k, v in self.samples.items() if k in keep})

    def every(self, stride: int) -> Run:
        """The run as a loop logs it that writes one row in `stride`."""
        return Run(
            {name: values[::stride] for name, values in self.signals.items()},
            {name: values[::stride] for name, values in self.samples.items()},
            math.ceil(self.onset / stride),
        )

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each row as the dict that a loop hands to `Watch.log`."""
        lists = {name: values.tolist() for name, values in self.signals.items()}
        for row in range(len(self)):
            yield {name: values[row] for name, values in lists.items()} | {
                name: values[row] for name, values in self.samples.items()
            }

    def observations(self) -> Iterator[Observation]:
        """Each row as the detectors get it."""
        lists = {name: values.tolist() for name, values in self.signals.items()}
        for row in range(len(self)):
            observation = Observation(row, row, 0.0)
            for name, values in lists.items():
                x = values[row]
                (observation.signals if math.isfinite(x) else observation.nonfinite)[name] = x
            if self.samples:
                observation.samples = {name: values[row] for name, values in self.samples.items()}
                derive(observation)
            yield observation


@dataclass(frozen=True)
class Fault:
    """A fault generator, the detector that must name it, and the rows after onset that it may take at strength 1."""

    name: str
    detector: str
    delay: int
    make: Callable[..., Run]


FAULTS: dict[str, Fault] = {}


def fault(detector: str, delay: int) -> Callable[[Callable[..., Run]], Callable[..., Run]]:
    """Register a generator `make(strength=1.0, seed=0, onset=..., rows=...)` under its own name."""

    def register(make: Callable[..., Run]) -> Callable[..., Run]:
        FAULTS[make.__name__] = Fault(make.__name__, detector, delay, make)
        return make

    return register


def overlay(detector: str, delay: int, onset: int = 100, **fixed: Any) -> Callable[[Any], Any]:
    """Register a generator of some signals (`fixed` are arguments of its) as the run that `whole` makes of them."""

    def register(make: Callable[..., Signals]) -> Callable[..., Signals]:
        @functools.wraps(make)
        def complete(seed: int = 0, onset: int = onset) -> Run:
            return whole(make(seed=seed, onset=onset, **fixed), onset, seed)

        FAULTS[make.__name__] = Fault(make.__name__, detector, delay, complete)
        return make

    return register


def noise(rng: np.random.Generator, rows: int, sigma: float) -> Array:
    """Multiplicative log-normal noise around 1."""
    return rng.lognormal(0.0, sigma, rows)


def correlated(rng: np.random.Generator, rows: int, sigma: float, phi: float = 0.9) -> Array:
    """Stationary AR(1) noise with that standard deviation."""
    draws = rng.normal(0.0, sigma * math.sqrt(1.0 - phi * phi), rows)
    draws[0] = rng.normal(0.0, sigma)
    for row in range(1, rows):
        draws[row] += phi * draws[row - 1]
    return draws


def around(level: float, rng: np.random.Generator, rows: int, sigma: float = 0.3, phi: float = 0.0) -> Array:
    """A positive signal around a level: log-normal, independent rows or AR(1)."""
    return level * np.exp(correlated(rng, rows, sigma, phi) if phi else rng.normal(0.0, sigma, rows))


def since(rows: int, onset: int) -> Array:
    """0 before `onset`, then 1, 2, 3, ..."""
    return np.maximum(0.0, np.arange(rows, dtype=np.float64) - onset + 1.0)


def fading(rows: int, onset: int, strength: float) -> Array:
    """1 before `onset`, then in a straight line to exactly 0 within 4 / strength rows."""
    return np.maximum(0.0, 1.0 - since(rows, onset) * strength / 4.0)


def healthy(rows: int = 300, seed: int = 0, samples: int = 0) -> Run:
    """A run that learns; with `samples`, that many continuous rewards and advantages a row."""
    rng = np.random.default_rng(seed)
    t = np.arange(rows, dtype=np.float64)
    spikes = np.where(rng.random(rows) < 0.01, rng.uniform(5.0, 50.0, rows), 1.0)
    spikes[1:][spikes[:-1] > 1.0] = 1.0
    signals = {
        "loss": rng.normal(0.0, 0.05, rows),
        "grad_norm": 0.4 * noise(rng, rows, 0.4) * spikes,
        "kl": 0.1 * (1.0 - np.exp(-t / 100.0)) * noise(rng, rows, 0.3),
        "approx_kl": 1e-3 * noise(rng, rows, 0.5),
        "ratio": rng.normal(1.0, 1e-3, rows),
        "entropy": (0.15 + 0.2 * np.exp(-t / 200.0)) * noise(rng, rows, 0.08),
        "reward_mean": 0.2 + 0.6 * (1.0 - np.exp(-t / 150.0)) + rng.normal(0.0, 0.04, rows),
        "reward_std": 0.3 * noise(rng, rows, 0.2),
        "advantage_std": 0.8 * noise(rng, rows, 0.15),
        "response_length_mean": 200.0 * (1.0 + 0.15 * (1.0 - np.exp(-t / 150.0))) * noise(rng, rows, 0.03),
        "gold_score": 0.2 + 0.5 * (1.0 - np.exp(-t / 150.0)) + rng.normal(0.0, 0.05, rows),
    }
    if not samples:
        return Run(signals)
    draws = rng.normal(size=(rows, samples))
    rewards = signals["reward_mean"][:, None] + signals["reward_std"][:, None] * draws
    return Run(signals, {"rewards": rewards, "advantages": signals["advantage_std"][:, None] * draws})


def learning(rows: int = 300, seed: int = 0) -> dict[str, Array]:
    """A reward that rises from .2 to .8 and a length, an entropy and a spread that hardly move."""
    rng = np.random.default_rng(seed)
    t = np.arange(rows)
    return {
        "reward_mean": 0.2 + 0.6 * (1.0 - np.exp(-t / 40.0)) + rng.normal(0.0, 0.03, rows),
        "reward_std": 0.3 * rng.lognormal(0.0, 0.1, rows),
        "entropy": 0.3 * rng.lognormal(0.0, 0.1, rows),
        "response_length_mean": 200.0 * rng.lognormal(0.0, 0.05, rows),
        "grad_norm": 0.4 * rng.lognormal(0.0, 0.4, rows),
    }


def ppo_run(rows: int = 300, seed: int = 0) -> Run:
    """`healthy`, and all that a PPO loop with a critic, an inference engine and a KL penalty logs beside it."""
    run = healthy(rows, seed)
    rng = np.random.default_rng((seed, 5))
    learnt = 1.0 - np.exp(-np.arange(rows) / 5.0)
    returns = run.signals["reward_mean"]
    return run.having(
        clip_fraction=around(0.05, rng, rows),
        frac_reward_zero_std=np.clip(0.3 + rng.normal(0.0, 0.1, rows), 0.0, 0.9),
        truncation_rate=around(0.02, rng, rows),
        explained_variance=-1.0 + 1.8 * learnt + rng.normal(0.0, 0.1, rows),
        value_loss=around(0.2, rng, rows) * (5.0 - 4.0 * learnt),
        value_mean=returns * learnt,
        return_mean=returns,
        policy_step_norm=around(1e-3, rng, rows, 0.2),
        value_step_norm=around(5e-3, rng, rows, 0.2),
        update_norm=around(1e-3, rng, rows),
        weight_norm=np.full(rows, 100.0),
        learning_rate=np.full(rows, 1e-6),
        kl_coef=np.full(rows, 0.05),
        kl_target=np.full(rows, 0.1),
        rollout_prob_diff=around(0.003, rng, rows, 0.05),
        rollout_kl=around(5e-4, rng, rows, 0.05),
        is_weight_mean=around(1.0, rng, rows, 0.05),
        ess=np.minimum(1.0, around(0.9, rng, rows, 0.05)),
        staleness=around(1.0, rng, rows, 0.2),
        step_time=around(10.0, rng, rows, 0.1),
        memory_allocated=60.0 + np.abs(rng.normal(0.0, 0.3, rows)),
    )


def whole(changed: Run | Signals, onset: int, seed: int) -> Run:
    """The run of `ppo_run` with these signals (arrays or numbers) and samples in the place of its own.

    A mean or a deviation that the loop logs beside samples which say otherwise is left out, and its gold score goes
    with a reward that is put in its place.
    """
    signals = changed.signals if isinstance(changed, Run) else changed
    samples = changed.samples if isinstance(changed, Run) else {}
    rows = len(changed) if isinstance(changed, Run) else max(len(x) for x in signals.values() if np.ndim(x))
    run = ppo_run(rows, seed)
    known = {name: np.full(rows, x) if np.ndim(x) == 0 else np.asarray(x, np.float64) for name, x in signals.items()}
    if "reward_mean" in known and "gold_score" not in known:
        jitter = np.random.default_rng((seed, 6)).normal(0.0, 0.05, rows)
        known["gold_score"] = 0.85 * known["reward_mean"] + jitter
    own = {name: values for name, values in run.signals.items() if not (samples and name in _MEANS)}
    return Run({**own, **known}, samples, onset)


_MEANS = frozenset({"reward_mean", "reward_std", "advantage_std", "frac_reward_zero_std"})


def stuck(run: Run, onset: int, seed: int) -> Array:
    """The reward of `run` up to `onset`, then flat at that level but for its noise."""
    reward = run.signals["reward_mean"].copy()
    rest = len(reward) - onset
    level = float(np.mean(reward[max(0, onset - 5) : max(onset, 1)]))
    reward[onset:] = level + np.random.default_rng(seed + 1).normal(0.0, 0.04, rest)
    return reward
