"""What the callback costs a Stable-Baselines3 run: the same model with and without it, turn by turn in one process.

    python benchmarks/sb3_overhead.py                       # PPO, A2C, DQN, SAC with SB3's defaults
    python benchmarks/sb3_overhead.py --only PPO --turns 20

Time is the thread's own (`time.thread_time`), so that other processes of the machine do not count, and what is compared
are medians: of an iteration of PPO, of 100 updates of the others.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # runs from a checkout that is not installed

from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback

from rlwatch.adapters.sb3 import RLWatchCallback

CASES: dict[str, tuple[Any, str, int]] = {
    "PPO": (PPO, "CartPole-v1", 2048),
    "A2C": (A2C, "CartPole-v1", 500),
    "DQN": (DQN, "CartPole-v1", 400),
    "SAC": (SAC, "Pendulum-v1", 100),
}
"""Algorithm, environment, and environment steps of what is timed."""

UNITS = 3
"""Timed pieces of one turn."""


class Clock(BaseCallback):
    """The thread's time at the start of each rollout that begins a piece."""

    def __init__(self, piece: int) -> None:
        super().__init__()
        self.piece = piece
        self.stamps: list[float] = []

    def _on_rollout_start(self) -> None:
        if (self.model.num_timesteps - self.model._num_timesteps_at_start) % self.piece == 0:
            self.stamps.append(time.thread_time())

    def _on_step(self) -> bool:
        return True


def turn(model: Any, piece: int, watched: bool) -> list[float]:
    """Seconds of each piece of one `learn()`; the first is left out: it holds what attaching costs."""
    clock = Clock(piece)
    # The clock comes last, so that our work at the start of a rollout falls into the piece before it.
    ours = [RLWatchCallback(record=False, console=False)] if watched else []
    model.learn((UNITS + 1) * piece + 1, callback=[*ours, clock], reset_num_timesteps=False)
    return [end - begin for begin, end in zip(clock.stamps[1:], clock.stamps[2:], strict=False)]


def measure(name: str, turns: int) -> tuple[float, float]:
    """Median seconds of a piece, alone and watched."""
    kind, env, piece = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        models = [kind("MlpPolicy", env, seed=0, device="cpu") for _ in range(2)]
    for model in models:
        model.learn(max(200, piece))  # past what is slow at first
    times: list[list[float]] = [[], []]
    for number in range(turns):
        for watched in (number % 2, 1 - number % 2):
            models[watched].set_random_seed(number)  # both play and learn the same, bit for bit
            times[watched] += turn(models[watched], piece, bool(watched))
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=tuple(CASES), help="one algorithm")
    parser.add_argument("--turns", type=int, default=8, help="turns of each, with and without (default %(default)s)")
    chosen = parser.parse_args()
    print("| algorithm | alone | with rlwatch | difference |\n|---|---|---|---|")
    for name in [chosen.only] if chosen.only else CASES:
        alone, watched = measure(name, chosen.turns)
        share = 100 * (watched / alone - 1)
        print(f"| {name} | {1e3 * alone:.1f} ms | {1e3 * watched:.1f} ms | {share:+.2f} % |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
