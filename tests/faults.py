"""Synthetic training runs: a healthy one, and one generator a fault, each with a strength and a seed.

A run holds every signal that a GRPO-like loop logs, at the levels that real healthy runs have (KL from 0 to .1,
entropy .35 to .15 nats, a heavy-tailed gradient with spikes that recover, reward from .2 to .8). A fault changes
only the signals that it concerns, from row `onset` on. Strength 1 is the textbook case; smaller is weaker or slower,
as each docstring says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rlwatch.intake import derive
from rlwatch.observation import Observation

Array = npt.NDArray[np.float64]


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


def noise(rng: np.random.Generator, rows: int, sigma: float) -> Array:
    """Multiplicative log-normal noise around 1."""
    return rng.lognormal(0.0, sigma, rows)


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


def since(rows: int, onset: int) -> Array:
    """0 before `onset`, then 1, 2, 3, ..."""
    return np.maximum(0.0, np.arange(rows, dtype=np.float64) - onset + 1.0)


def fading(rows: int, onset: int, strength: float) -> Array:
    """1 before `onset`, then in a straight line to exactly 0 within 4 / strength rows."""
    return np.maximum(0.0, 1.0 - since(rows, onset) * strength / 4.0)


def stuck(run: Run, onset: int, seed: int) -> Array:
    """The reward of `run` up to `onset`, then flat at that level but for its noise."""
    reward = run.signals["reward_mean"].copy()
    rest = len(reward) - onset
    level = float(np.mean(reward[max(0, onset - 5) : max(onset, 1)]))
    reward[onset:] = level + np.random.default_rng(seed + 1).normal(0.0, 0.04, rest)
    return reward


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
