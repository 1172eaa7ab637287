"""Which runs there are: the faults by strength and seed, the twin of each, and the healthy runs of all kinds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from benchmarks.gym.faults import FAULTS
from benchmarks.gym.grpo import GrpoConfig
from benchmarks.gym.ppo import PpoConfig
from benchmarks.gym.with_trl import TrlConfig

Mode = Literal["none", "halt", "rollback"]
MODES: tuple[Mode, ...] = ("none", "halt", "rollback")
Config = GrpoConfig | PpoConfig | TrlConfig
TASKS = {
    "grpo": ("sort4", "reverse6", "shift4", "running4", "reverse5", "sort5", "shift5"),
    "ppo": ("cartpole", "reach", "chain"),
    "trl": ("sort4", "reverse5", "shift4"),
}
PRESETS = {"grpo": "grpo", "ppo": "classic", "trl": "grpo"}
"""Of the watchdog, as a user of such a trainer would name it."""


@dataclass(frozen=True)
class Case:
    """One run. `fault` is a key of `FAULTS`, or "" for a healthy one; `twin` leaves the fault out, all else equal.

    `grid` numbers the healthy runs of all kinds, whose config is drawn at random; -1 for the others.
    """

    trainer: str
    seed: int = 0
    fault: str = ""
    strength: float = 0.0
    mode: Mode = "none"
    twin: bool = False
    grid: int = -1

    @property
    def broken(self) -> bool:
        return bool(self.fault) and not self.twin

    @property
    def key(self) -> str:
        """The name under which the result is kept; twins that are the same run have the same."""
        if self.grid >= 0:
            return f"{self.trainer}-healthy-{self.grid}-{self.mode}"
        if self.broken:
            return f"{self.fault.replace('/', '-')}-{self.strength:g}-{self.seed}-{self.mode}"
        fault = FAULTS.get(self.fault)
        prepared = [fault.name, self.strength] if fault and fault.prepare else []
        text = json.dumps([asdict(self.config), prepared], sort_keys=True)
        return f"{self.trainer}-twin-{self.seed}-{hashlib.sha256(text.encode()).hexdigest()[:8]}-{self.mode}"

    @property
    def config(self) -> Config:
        """The config at the start of the run; a new object each time."""
        fault = FAULTS.get(self.fault)
        if self.grid >= 0:
            return _grid_config(self.trainer, self.grid)
        config = _base_config(self.trainer, self.seed, fault.tasks if fault else ())
        for name, value in (fault.config if fault else {}).items():
            setattr(config, name, value)
        return config

    @property
    def onset(self) -> int:
        """The step at which the fault begins; -1 for a healthy run."""
        if not self.broken:
            return -1
        early, late = FAULTS[self.fault].onset
        share = np.random.default_rng((self.seed, 99)).uniform(early, late)
        return int(share * self.config.steps)


def fault_cases(
    seeds: int, modes: tuple[Mode, ...] = MODES, strengths: int | None = None, trl: bool = False
) -> Iterator[Case]:
    """Each fault at each strength (the last `strengths` of them), and its twin, for each seed; in TRL, or not."""
    faults = {key: fault for key, fault in FAULTS.items() if (fault.trainer == "trl") == trl}
    for seed in range(seeds):
        for key, fault in faults.items():
            for strength in fault.strengths[-strengths if strengths else 0 :]:
                case = Case(fault.trainer, seed, key, strength)
                yield Case(fault.trainer, seed, key, strength, twin=True)
                yield case
                yield from (Case(fault.trainer, seed, key, strength, mode) for mode in modes if mode != "none")


def healthy_cases(count: int, modes: tuple[Mode, ...] = ("none",)) -> Iterator[Case]:
    """`count` healthy runs, two of three with GRPO, all different; each in these modes."""
    for i in range(count):
        for mode in modes:
            yield Case("ppo" if i % 3 == 2 else "grpo", seed=1000 + i, mode=mode, grid=i)


def _base_config(trainer: str, seed: int, tasks: tuple[str, ...]) -> Config:
    tasks = tasks or TASKS[trainer]
    rng = np.random.default_rng((seed, 7))
    task = tasks[seed % len(tasks)]
    if trainer == "trl":
        return TrlConfig(task=task, seed=seed, base_seed=seed % 2)
    if trainer == "ppo":
        # A pole needs larger batches than the others to be held without relapses.
        size: dict[str, Any] = {"envs": 16, "horizon": 64, "steps": 120} if task == "cartpole" else {}
        return PpoConfig(task=task, seed=seed, **size)
    return GrpoConfig(
        task=task,
        seed=seed,
        base_seed=seed % 2,
        width=_one_of(rng, 32, 48),
        reward=_one_of(rng, "exact", "exact", "partial", "scored"),
        lr=_one_of(rng, 4e-4, 6e-4, 8e-4),
        kl_coef=_one_of(rng, 0.0, 0.02, 0.05),
        epochs=_one_of(rng, 1, 1, 2),
    )


def _grid_config(trainer: str, number: int) -> Config:
    """A sound config drawn at random: sizes, rates, rewards and habits that users have."""
    rng = np.random.default_rng((number, 11))
    if trainer == "ppo":
        return PpoConfig(
            task=_one_of(rng, *TASKS["ppo"]),
            seed=1000 + number,
            envs=_one_of(rng, 4, 8, 8, 16),
            horizon=_one_of(rng, 32, 32, 64),
            steps=_one_of(rng, 120, 200),
            lr=float(10 ** rng.uniform(-3.1, -2.5)),
            critic_lr=float(10 ** rng.uniform(-3.0, -2.4)),
            decay=_one_of(rng, "constant", "linear", "linear"),
            clip_range=_one_of(rng, 0.1, 0.2, 0.2, 0.3),
            epochs=_one_of(rng, 2, 4, 4, 6),
            minibatches=_one_of(rng, 2, 4),
            entropy_coef=_one_of(rng, 0.0, 0.005, 0.01),
            gae_lambda=_one_of(rng, 0.9, 0.95),
            shared=_one_of(rng, False, False, True),
            scale_advantages=_one_of(rng, True, True, False),
            reward_scale=_one_of(rng, 0.1, 1.0, 1.0),
        )
    prompts, group = _one_of(rng, (8, 8), (8, 8), (4, 8), (8, 4), (4, 4), (12, 8))
    return GrpoConfig(
        task=_one_of(rng, *TASKS["grpo"]),
        seed=1000 + number,
        base_seed=_one_of(rng, 0, 1),
        width=_one_of(rng, 32, 48),
        steps=_one_of(rng, 200, 300),
        prompts=prompts,
        group=group,
        reward=_one_of(rng, "exact", "exact", "partial", "scored"),
        lr=float(10 ** rng.uniform(-3.7, -3.1)),
        decay=_one_of(rng, "constant", "linear", "cosine"),
        warmup=_one_of(rng, 0, 10, 30),
        kl_coef=_one_of(rng, 0.0, 0.0, 0.01, 0.04, 0.1),
        entropy_coef=_one_of(rng, 0.0, 0.0, 0.003),
        clip_range=_one_of(rng, 0.1, 0.2, 0.3),
        epochs=_one_of(rng, 1, 1, 2, 4),
        scale_rewards=_one_of(rng, True, True, False),
        max_grad_norm=_one_of(rng, 0.2, 1.0, float("inf")),
        betas=_one_of(rng, (0.9, 0.95), (0.9, 0.999)),
    )


def _one_of(rng: np.random.Generator, *values: Any) -> Any:
    return values[int(rng.integers(len(values)))]
