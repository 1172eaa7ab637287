"""Tiny environments, many at a time, in NumPy: each step is one array operation on all of them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class VectorEnv:
    """`count` copies of an environment; those that end begin again at once.

    `success` of a finished episode, 0 to 1, is the true goal, whatever the reward says.
    """

    observation: ClassVar[int]
    actions: ClassVar[int]
    horizon: ClassVar[int]

    def __init__(self, count: int, rng: np.random.Generator) -> None:
        self.count, self.rng = count, rng
        self.state = np.zeros((count, 0))
        self.age = np.zeros(count, dtype=np.int64)
        self.state = self.fresh(count)

    def fresh(self, count: int) -> Array:
        """New states, (count, size)."""
        raise NotImplementedError

    def observe(self) -> Array:
        """What the policy sees, (count, observation)."""
        return self.state

    def move(self, actions: Ints) -> tuple[Array, npt.NDArray[np.bool_], Array]:
        """Rewards, which episodes ended by themselves, and the success of each if it ends now; all (count,)."""
        raise NotImplementedError

    def step(self, actions: Ints) -> tuple[Array, npt.NDArray[np.bool_], npt.NDArray[np.bool_], Array, Ints, Array]:
        """Rewards, ended, timed out, success, lengths, and the observation before any new beginning."""
        rewards, ended, success = self.move(actions)
        self.age += 1
        timed_out = (self.age >= self.horizon) & ~ended
        last, lengths = self.observe().copy(), self.age.copy()
        over = ended | timed_out
        if over.any():
            self.state[over] = self.fresh(int(over.sum()))
            self.age[over] = 0
        return rewards, ended, timed_out, success, lengths, last


class CartPole(VectorEnv):
    """The pole on a cart of Barto, Sutton and Anderson (1983), with Gymnasium's constants; success: steps / 200."""

    observation, actions, horizon = 4, 2, 200

    def fresh(self, count: int) -> Array:
        return self.rng.uniform(-0.05, 0.05, (count, 4))

    def move(self, actions: Ints) -> tuple[Array, npt.NDArray[np.bool_], Array]:
        x, v, theta, omega = self.state.T
        force = np.where(actions == 1, 10.0, -10.0)
        sin, cos = np.sin(theta), np.cos(theta)
        pushed = (force + 0.05 * omega**2 * sin) / 1.1
        angular = (9.8 * sin - cos * pushed) / (0.5 * (4.0 / 3.0 - 0.1 * cos**2 / 1.1))
        linear = pushed - 0.05 * angular * cos / 1.1
        self.state = np.stack(
            [x + 0.02 * v, v + 0.02 * linear, theta + 0.02 * omega, omega + 0.02 * angular], axis=1
        )
        ended = (np.abs(self.state[:, 0]) > 2.4) | (np.abs(self.state[:, 2]) > 12 * np.pi / 180)
        return np.ones(self.count), ended, (self.age + 1) / self.horizon


class Reach(VectorEnv):
    """A point with inertia on the plane is pushed in one of five ways; success: it stands near the goal at the end.

    State: position, velocity, goal. The reward is the progress towards the goal, and 1 for ending near it.
    """

    observation, actions, horizon = 6, 5, 40
    near: ClassVar[float] = 0.15
    pushes: ClassVar[Array] = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], dtype=np.float64)

    def fresh(self, count: int) -> Array:
        place, goal = self.rng.uniform(-1, 1, (2, count, 2))
        return np.concatenate([place, np.zeros((count, 2)), goal], axis=1)

    def move(self, actions: Ints) -> tuple[Array, npt.NDArray[np.bool_], Array]:
        place, speed, goal = self.state[:, :2], self.state[:, 2:4], self.state[:, 4:]
        before = np.linalg.norm(place - goal, axis=1)
        speed = 0.8 * speed + 0.05 * self.pushes[actions]
        place = place + speed
        after = np.linalg.norm(place - goal, axis=1)
        self.state = np.concatenate([place, speed, goal], axis=1)
        success = (after < self.near).astype(np.float64)
        last = self.age + 1 >= self.horizon
        return before - after + np.where(last, success, 0.0), np.zeros(self.count, dtype=np.bool_), success


class Chain(VectorEnv):
    """A key must be fetched at one end of a corridor of seven cells and brought to the other; reward 0 or 1 at the end.

    The start is random, steps slip one time in five. Success: brought in time.
    """

    observation, actions, horizon = 8, 2, 24
    cells: ClassVar[int] = 7

    def fresh(self, count: int) -> Array:
        return np.stack([self.rng.integers(0, self.cells, count), np.zeros(count)], axis=1).astype(np.float64)

    def observe(self) -> Array:
        seen = np.zeros((self.count, self.cells + 1))
        seen[np.arange(self.count), self.state[:, 0].astype(np.int64)] = 1.0
        seen[:, -1] = self.state[:, 1]
        return seen

    def move(self, actions: Ints) -> tuple[Array, npt.NDArray[np.bool_], Array]:
        slipped = self.rng.random(self.count) < 0.2
        direction = np.where((actions == 1) ^ slipped, 1, -1)
        cell = np.clip(self.state[:, 0] + direction, 0, self.cells - 1)
        key = np.maximum(self.state[:, 1], cell == 0)
        self.state = np.stack([cell, key], axis=1)
        brought = (cell == self.cells - 1) & (key > 0)
        return brought.astype(np.float64), brought, brought.astype(np.float64)


ENVS: dict[str, type[VectorEnv]] = {"cartpole": CartPole, "reach": Reach, "chain": Chain}
