"""Small Stable-Baselines3 models that learn in seconds, and what breaks them on demand."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from rlwatch import Observation, Verdict, Watch

SILENT: dict[str, Any] = {"record": False, "console": False, "strict": True}

NET = {"net_arch": [32, 32]}
MODELS: dict[str, tuple[type[BaseAlgorithm], str, int, dict[str, Any]]] = {
    "ppo": (PPO, "CartPole-v1", 4, {"n_steps": 64, "batch_size": 64, "n_epochs": 4, "learning_rate": 1e-3}),
    "ppo-gauss": (PPO, "Pendulum-v1", 4, {"n_steps": 64, "batch_size": 64, "n_epochs": 4, "gamma": 0.9}),
    "a2c": (A2C, "CartPole-v1", 4, {}),
    "dqn": (DQN, "CartPole-v1", 1, {"learning_starts": 50, "train_freq": 2, "buffer_size": 5000}),
    "sac": (SAC, "Pendulum-v1", 1, {"learning_starts": 50, "batch_size": 32, "buffer_size": 5000}),
    "td3": (TD3, "Pendulum-v1", 1, {"learning_starts": 50, "batch_size": 32, "buffer_size": 5000}),
}


class Breakable(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Its reward is what `Breakable.change` makes of it, in all environments at once."""

    change: Any = None

    def step(self, action: Any) -> Any:
        """One step."""
        seen, reward, *rest = self.env.step(action)
        change = type(self).change
        return seen, reward if change is None else change(float(reward)), *rest


class At(BaseCallback):
    """Does something once, at a step of the environment."""

    def __init__(self, step: int, do: Any) -> None:
        super().__init__()
        self._step, self._do = step, do

    def _on_step(self) -> bool:
        if self._do is not None and self.num_timesteps >= self._step:
            do, self._do = self._do, None
            do(self.model)
        return True


def times(factor: float) -> Any:
    """The learning rate, multiplied from now on."""

    def break_it(model: Any) -> None:
        schedule = model.lr_schedule
        model.lr_schedule = lambda progress: factor * schedule(progress)

    return break_it


def make(name: str, seed: int = 0, wrap: Any = None, **changes: Any) -> Any:
    """A model of `MODELS`, on the CPU; `wrap` goes around its vectorised environment."""
    kind, env, count, settings = MODELS[name]
    torch.set_num_threads(1)
    vec = make_vec_env(lambda: Breakable(gymnasium.make(env)), count, seed=seed)  # which puts a Monitor around it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        given = {"policy_kwargs": dict(NET), **settings, **changes}  # SB3 adds to it
        return kind("MlpPolicy", wrap(vec) if wrap else vec, seed=seed, device="cpu", **given)


class SeenWatch(Watch):
    """A Watch that keeps every row and verdict."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"preset": "classic", **SILENT, **settings})
        self.rows_seen: list[Observation] = []
        self.verdicts: list[Verdict] = []

    def _judge(self, observation: Observation) -> Verdict:
        verdict = super()._judge(observation)
        self.rows_seen.append(observation)
        self.verdicts.append(verdict)
        return verdict


def everything(model: Any) -> dict[str, Any]:
    """Weights, target networks and optimizer states, copied."""
    found: dict[str, Any] = {name: value.detach().clone() for name, value in model.policy.state_dict().items()}
    for name, params in model.get_parameters().items():
        if "optimizer" in name:
            for index, state in params["state"].items():
                found.update({f"{name} {index} {key}": torch.as_tensor(x).clone() for key, x in state.items()})
    if getattr(model, "log_ent_coef", None) is not None:
        found["log_ent_coef"] = model.log_ent_coef.detach().clone()
    return found


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def finite(model: Any) -> bool:
    """Whether all weights are."""
    return all(bool(value.isfinite().all()) for value in model.policy.state_dict().values())


def returns_of(watch: SeenWatch) -> list[float]:
    """The mean return of each row that has one."""
    return [row.signals["reward_mean"] for row in watch.rows_seen if "reward_mean" in row.signals]


def arrays(values: Any) -> Any:
    """A flat float64 array."""
    return np.asarray(values, dtype=np.float64).reshape(-1)
