"""A row: what SB3 recorded of its updates, the episodes that ended, the rollouts they were made of."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np

from rlwatch.adapters.sb3.algorithms import FEW, Algorithm

RECORDED = {
    "train/entropy_loss": ("entropy", -1.0),  # SB3 minimises minus the entropy
    "train/policy_gradient_loss": ("policy_loss", 1.0),
    "train/policy_loss": ("policy_loss", 1.0),
    "train/actor_loss": ("policy_loss", 1.0),
    "train/critic_loss": ("value_loss", 1.0),
    "train/value_loss": ("value_loss", 1.0),
    "train/loss": ("loss", 1.0),
    "train/approx_kl": ("approx_kl", 1.0),
    "train/clip_fraction": ("clip_fraction", 1.0),
    "train/clip_range": ("clip_range", 1.0),
    "train/explained_variance": ("explained_variance", 1.0),
    "train/learning_rate": ("learning_rate", 1.0),
    "train/ent_coef": ("entropy_coef", 1.0),
    "train/std": ("action_std", 1.0),
}
"""What `train()` records -> canonical signal and factor; other keys keep their names."""

SAMPLES = ("advantages", "values", "returns")


class Rows:
    """Collects one row at a time.

    SB3 dumps `train/*` an iteration late: `train()` comes after `dump_logs()`. Here they are read right after the
    `train()` that recorded them, together with the rollouts that it was made of.

    Args:
        model: whose `learn()` has begun.
    """

    def __init__(self, model: Any, known: Algorithm) -> None:
        self._model = model
        self._known = known
        self._rollouts: dict[str, list[Any]] = {name: [] for name in SAMPLES}
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._updates = 0
        self._updating = 0.0
        self._began = time.perf_counter()
        self._steps = model.num_timesteps
        self._last_episode = next(reversed(self._buffer()), None)

    def rollout(self) -> None:
        """A rollout has ended: SB3 drops its arrays before the next one, so that they are kept, not copied."""
        if self._known.on_policy:
            for name, kept in self._rollouts.items():
                array = getattr(self._model.rollout_buffer, name, None)
                if array is not None:
                    kept.append(array)

    def trained(self, recorded: Mapping[str, Any], updates: int, seconds: float) -> bool:
        """A `train()` has ended; whether the row is complete: it has its updates, or one of them was not finite.

        Args:
            recorded: SB3's logger, by key.
            updates: gradient steps made (PPO: epochs).
            seconds: it took.
        """
        sums, counts = self._sums, self._counts
        bad = False
        for key, value in recorded.items():
            if key.startswith("train/"):
                number = float(value)
                sums[key] = sums.get(key, 0.0) + number
                counts[key] = counts.get(key, 0) + 1
                bad = bad or (number - number != 0.0 and key.endswith("loss"))
        self._updates += updates
        self._updating += seconds
        return bad or self._updates >= self._known.every

    def take(self) -> dict[str, Any]:
        """The row, in canonical names; the next one begins."""
        row: dict[str, Any] = {}
        for key, total in self._sums.items():
            name, factor = RECORDED.get(key, (key, 1.0))
            row[name] = factor * total / self._counts[key]
        if "loss" in row and not self._known.on_policy:
            row.setdefault("value_loss", row["loss"])  # DQN's only loss is that of its values
        coefficient = getattr(self._model, "ent_coef", None)
        if isinstance(coefficient, float):
            row.setdefault("entropy_coef", coefficient)
        if "action_std" not in row and (std := _action_std(self._model)) is not None:
            row["action_std"] = std
        row.update(self._times())
        row.update(self._episodes())
        for name, kept in self._rollouts.items():
            if kept:
                row[name] = np.concatenate([np.asarray(each).reshape(-1) for each in kept])
        self.drop()
        return row

    def drop(self) -> None:
        """Begin a row, and forget what there was of the last."""
        for kept in self._rollouts.values():
            kept.clear()
        self._sums.clear()
        self._counts.clear()
        self._updates = 0

    def _times(self) -> dict[str, float]:
        now, steps = time.perf_counter(), self._model.num_timesteps
        took, updating, made = now - self._began, self._updating, steps - self._steps
        self._began, self._updating, self._steps = now, 0.0, steps
        return {
            "step_time": took,
            "update_time": updating,
            "generation_time": max(0.0, took - updating),
            "env_steps": float(steps),
            "env_steps_per_second": made / took if took > 0.0 else 0.0,
        }

    def _episodes(self) -> dict[str, Any]:
        """Returns and lengths of the episodes that ended since the last row: SB3's own mean is over the last 100."""
        fresh = []
        for info in reversed(self._buffer()):
            if info is self._last_episode:
                break
            fresh.append(info)
        if not fresh:
            return {}
        self._last_episode = fresh[0]
        returns = [float(info["r"]) for info in reversed(fresh)]
        found: dict[str, Any] = {"reward_mean": fmean(returns)}
        if len(returns) >= FEW:
            found["rewards"] = np.array(returns)
        found["episode_length_mean"] = fmean(float(info["l"]) for info in fresh)
        return found

    def _buffer(self) -> Any:
        """SB3's last episodes (`stats_window_size`), the newest last."""
        return getattr(self._model, "ep_info_buffer", None) or ()


def _action_std(model: Any) -> float | None:
    """The mean standard deviation of SAC's last actions, before they are squashed."""
    last = getattr(getattr(getattr(model.policy, "actor", None), "action_dist", None), "distribution", None)
    std = getattr(last, "stddev", None)
    return None if std is None else float(std.mean())
