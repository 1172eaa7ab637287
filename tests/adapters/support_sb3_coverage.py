"""What each algorithm of Stable-Baselines3 lets rlwatch judge with its defaults: run this file for the table."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from support_coverage import table

from rlwatch.adapters.sb3 import RLWatchCallback
from rlwatch.detectors.coverage import CoverageReport

DEFAULTS: dict[str, tuple[Any, str, int]] = {
    "PPO": (PPO, "CartPole-v1", 5 * 2048),
    "A2C": (A2C, "CartPole-v1", 6 * 500),
    "DQN": (DQN, "CartPole-v1", 6 * 400 + 100),
    "SAC": (SAC, "Pendulum-v1", 610),
    "TD3": (TD3, "Pendulum-v1", 610),
}
"""Algorithm, environment, and the steps that it takes until a signal that has not come counts as missing."""


def reports() -> dict[str, CoverageReport]:
    """Each algorithm's coverage after a real run; the networks are small, which changes nothing of what is logged."""
    torch.set_num_threads(1)
    found = {}
    for name, (kind, env, steps) in DEFAULTS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model = kind("MlpPolicy", env, seed=0, device="cpu", policy_kwargs={"net_arch": [16]})
        callback = RLWatchCallback(record=False, console=False, strict=True)
        model.learn(steps, callback=callback)
        assert callback.watch is not None
        found[name] = callback.watch.coverage()
    return found


if __name__ == "__main__":
    print(table(reports()))
