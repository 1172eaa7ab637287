"""What is measured: algorithms with SB3's defaults."""

from __future__ import annotations

from typing import Any, NamedTuple

from stable_baselines3 import A2C, DQN, PPO, SAC


class Case(NamedTuple):
    """An algorithm with SB3's defaults.

    Attributes:
        kind: its class.
        env: what it plays.
        piece: environment steps of a piece.
        update: environment steps of a gradient step.
        first: environment steps that are left out, in which nothing is learnt yet, or all is slow at first.
        pairs: pieces of each model.
    """

    kind: Any
    env: str
    piece: int
    update: float
    first: int
    pairs: int


CASES = {
    "PPO": Case(PPO, "CartPole-v1", 128, 6.4, 4096, 800),
    "A2C": Case(A2C, "CartPole-v1", 25, 5.0, 1000, 4000),
    "DQN": Case(DQN, "CartPole-v1", 20, 4.0, 1000, 6000),
    "SAC": Case(SAC, "Pendulum-v1", 2, 1.0, 300, 3000),
}
