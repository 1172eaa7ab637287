"""Small environments, each with one thing wrong."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Walk(gymnasium.Env[Any, Any]):
    """A walk on a line from the middle; +1 at the right end, -1 at the left, 50 steps at most."""

    observation_space: Any = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space: Any = spaces.Discrete(2)
    limit = 50

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = float(self.np_random.uniform(-0.3, 0.3))
        self.steps = 0
        return self.seen(), {}

    def seen(self) -> Any:
        return np.array([np.clip(self.place, -1, 1), self.steps / max(self.limit, 100)], dtype=np.float32)

    def paid(self, ended: bool) -> float:
        return float(np.sign(self.place)) if ended else 0.0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place += 0.1 if action == 1 else -0.1
        self.steps += 1
        ended = abs(self.place) >= 1.0
        return self.seen(), self.paid(ended), ended, self.steps >= self.limit and not ended, {}


class Unseeded(Walk):
    """Draws from a generator that no seed reaches."""

    draw = np.random.default_rng()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place += float(self.draw.normal(0.0, 0.01))
        return super().step(action)


class Blind(Walk):
    """Always observes the same."""

    def seen(self) -> Any:
        return np.zeros(2, dtype=np.float32)


class Outside(Walk):
    """Observes more than its space allows."""

    def seen(self) -> Any:
        return np.array([5.0, 0.0], dtype=np.float32)


class NotANumber(Walk):
    """Pays NaN now and then."""

    def paid(self, ended: bool) -> float:
        return float("nan") if self.steps == 7 else super().paid(ended)


class Flat(Walk):
    """Pays nothing."""

    def paid(self, ended: bool) -> float:
        return 0.0


class Endless(Walk):
    """Never ends."""

    limit = 10**9

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, _, _, info = super().step(action)
        self.place = float(np.clip(self.place, -0.9, 0.9))
        return observation, reward, False, False, info


class Raises(Walk):
    """Breaks at step 5."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.steps == 5:
            raise KeyError("the map has no such field")
        return super().step(action)


class Reversed(Walk):
    """Pays for the wrong end."""

    def paid(self, ended: bool) -> float:
        return -super().paid(ended)


def right(observation: Any) -> int:
    """The expert of the walk."""
    return 1
