"""Logs of pairs and groups of runs, made on the spot: noise with a memory, and luck that stays with a seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Change = Callable[[dict[str, Any], int], None]


def log(
    path: Path, seed: int, change: Change | None = None, rows: int = 120, every: int = 1, luck: float = 0.01
) -> Path:
    """A run of a learning policy as JSON lines: entropy falls, reward rises, KL grows, a learning rate stands.

    A row of `every` steps holds their means, as a trainer's log does.
    """
    draw = np.random.default_rng(seed)
    steps = np.arange(1, rows * every + 1)
    done = 1 - np.exp(-steps / (40 * every))
    noise = draw.normal(size=(4, steps.size)) + luck / 0.01 * 0.5 * draw.normal(size=(4, 1))
    columns = {
        "reward": 0.2 + 0.6 * done + 0.02 * noise[0],
        "entropy": 0.5 - 0.3 * done + 0.01 * noise[1],
        "kl": 0.001 * np.exp(3 * done + 0.1 * noise[2]),
        "grad_norm": np.exp(0.2 * noise[3]),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as out:
        for place in range(0, steps.size, every):
            row = {name: float(values[place : place + every].mean()) for name, values in columns.items()}
            row |= {"step": int(steps[place + every - 1]), "learning_rate": 1e-5}
            if change is not None:
                change(row, row["step"])
            out.write(json.dumps(row) + "\n")
    return path
