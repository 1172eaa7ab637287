"""What a user hands to `watch.guard`: the trainer's objects, and the numbers that a remedy may change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlwatch import Watch

if TYPE_CHECKING:
    from benchmarks.gym.grpo import GrpoTrainer
    from benchmarks.gym.ppo import PpoTrainer
    from rlwatch.adapters.pytorch import Guard

KNOBS = (
    "kl_coef", "entropy_coef", "value_coef", "clip_range", "epochs", "max_grad_norm", "reward_clip", "reward_scale",
    "sync_every", "temperature",
)  # fmt: skip
"""Settings that the trainers read at every step and remedies know by these names; PPO has no KL penalty."""

SNAPSHOT_EVERY = 10
"""Rows. By default the period follows the clock; a fixed one makes every run repeatable."""


def guard_of(watch: Watch, trainer: GrpoTrainer | PpoTrainer, mode: str) -> Guard | None:
    """The guard for a mode; None where nobody watches."""
    if mode == "none":
        return None
    parts = (trainer.model, trainer.optimizer, trainer.scheduler)
    if mode == "halt":
        return watch.guard(*parts)
    config: Any = trainer.config
    knobs = {name: (config, name) for name in KNOBS if hasattr(config, name)}
    if hasattr(config, "scale_advantages"):
        knobs["normalize_advantages"] = (config, "scale_advantages")
    return watch.guard(*parts, knobs=knobs, snapshot_every=SNAPSHOT_EVERY)
