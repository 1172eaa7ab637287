"""A critic and a batch for it, from an environment or from a user's function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rlwatch.observation import FloatArray
from rlwatch.preflight.checks import PreflightError
from rlwatch.preflight.loading import load, words

if TYPE_CHECKING:
    from rlwatch.preflight.rolling import Episode

_BEHIND = 0.05
"""Weight of what lies behind a cut, from which a return is no longer known."""


def from_env(env: str, *, gamma: float = 0.95, episodes: int = 20, seed: int = 0) -> tuple[Any, FloatArray, FloatArray]:
    """A usual critic (two layers of 64, tanh), and a batch: observations and returns of a fixed simple policy.

    A random one would give equal states other returns, which no critic can fit.

    Raises:
        PreflightError: the environment cannot be made, or its episodes give no batch.
    """
    import torch

    from rlwatch.preflight.env import maker
    from rlwatch.preflight.env_reward import simple_policies
    from rlwatch.preflight.rolling import play, random_policy

    world = maker(env)()
    try:
        policy = next(iter(simple_policies(world, seed)), None) or random_policy(world, seed)
        played = [play(world, policy, seed + k, 500) for k in range(episodes)]
    except Exception as error:
        raise PreflightError(f"{env} cannot be played ({words(error)})") from error
    finally:
        world.close()
    seen, paid = _batch(played, gamma)
    if len(seen) < 2:
        raise PreflightError(f"{env} gave no batch: its episodes are cut off too early for --gamma {gamma:g}")
    observations = np.array(seen)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        size = observations.shape[1]
        layers = (torch.nn.Linear(size, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64), torch.nn.Tanh())
        critic = torch.nn.Sequential(*layers, torch.nn.Linear(64, 1))
    return critic, observations, np.array(paid)


def _batch(played: list[Episode], gamma: float) -> tuple[list[FloatArray], list[float]]:
    """Observations and discounted returns; of an episode that was cut off the steps that the cut does not reach."""
    seen: list[FloatArray] = []
    paid: list[float] = []
    for one in played:
        returns = [0.0]
        for reward in reversed(one.rewards):
            returns.append(reward + gamma * returns[-1])
        whole = returns[:0:-1]
        if one.end != "terminated":
            whole = [value for k, value in enumerate(whole) if gamma ** (len(whole) - k) < _BEHIND]
        kept = min(len(one.observed), len(whole))
        seen += one.observed[:kept]
        paid += whole[:kept]
    return seen, paid


def from_function(name: str) -> tuple[Any, Any, Any]:
    """What `module:function` gives: critic, observations, returns. Raises `PreflightError`."""
    try:
        found = load(name)()
    except PreflightError:
        raise
    except Exception as error:
        raise PreflightError(f"{name} raised {words(error)}") from error
    if not isinstance(found, tuple) or len(found) != 3:
        raise PreflightError(f"{name} has to return (critic, observations, returns)")
    return found
