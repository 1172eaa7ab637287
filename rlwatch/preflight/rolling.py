"""Playing episodes and keeping what the checks need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from rlwatch.observation import FloatArray

Policy = Callable[[Any], Any]

_KEPT = 2000


@dataclass
class Episode:
    """One episode.

    Attributes:
        rewards: of each step, as they came.
        end: how it ended; `none` where it was given up.
        bad_observations, outside: observations that are not finite, or not in the space.
        trace: a hash of what was observed and paid, a step each.
        low, high: smallest and largest of each number observed; None for observations that are no array.
    """

    rewards: list[float] = field(default_factory=list)
    end: Literal["terminated", "truncated", "none"] = "none"
    bad_observations: int = 0
    outside: int = 0
    trace: list[bytes] = field(default_factory=list)
    low: FloatArray | None = None
    high: FloatArray | None = None
    observed: list[FloatArray] = field(default_factory=list)

    @property
    def total(self) -> float:
        """The return, without discount."""
        return float(np.sum(self.rewards))


def play(world: Any, policy: Policy, seed: int, max_steps: int) -> Episode:
    """One episode from `reset(seed=seed)`. Raises what the environment raises."""
    made = Episode()
    observation, _ = world.reset(seed=seed)
    _see(made, world, observation, 0.0)
    for _ in range(max_steps):
        observation, reward, terminated, truncated, _ = world.step(policy(observation))
        made.rewards.append(float(reward))
        _see(made, world, observation, float(reward))
        if terminated or truncated:
            made.end = "terminated" if terminated else "truncated"
            break
    return made


def _see(made: Episode, world: Any, observation: Any, reward: float) -> None:
    flat = flat_of(world, observation)
    if not np.isfinite(flat).all():
        made.bad_observations += 1
    if not world.observation_space.contains(observation):
        made.outside += 1
    made.trace.append(flat.tobytes() + np.float64(reward).tobytes())
    if made.low is None or made.high is None or made.low.shape != flat.shape:
        made.low = made.high = flat
    else:
        made.low, made.high = np.fmin(made.low, flat), np.fmax(made.high, flat)
    if len(made.observed) < _KEPT and flat.size <= _KEPT:
        made.observed.append(flat)


def flat_of(world: Any, observation: Any) -> FloatArray:
    """An observation as a flat array of floats, whatever its space."""
    from gymnasium.spaces import flatten

    try:
        return np.asarray(flatten(world.observation_space, observation), dtype=np.float64).reshape(-1)
    except (NotImplementedError, TypeError, ValueError, IndexError):
        return np.frombuffer(repr(observation).encode(), dtype=np.uint8).astype(np.float64)


def random_policy(world: Any, seed: int) -> Policy:
    """Actions of the space, seeded."""
    world.action_space.seed(seed)
    return lambda _: world.action_space.sample()


def constant_parts(played: list[Episode]) -> np.typing.NDArray[np.bool_] | None:
    """Which numbers of an observation never changed; None where observations have no one shape."""
    shapes = {None if one.low is None else one.low.shape for one in played}
    if len(shapes) != 1 or None in shapes:
        return None
    low = np.min([one.low for one in played if one.low is not None], axis=0)
    high = np.max([one.high for one in played if one.high is not None], axis=0)
    return np.asarray(low == high)
