"""Rollouts of which it is known what their reward is made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]
WORDS = [first + second for first in ("al", "be", "ga", "de") for second in ("pha", "ta", "mma", "lta", "psi")]


def rollouts(
    *,
    steps: int = 20,
    prompts: int = 10,
    of: int = 40,
    answers: int = 6,
    learning: float = 1.0,
    hack: float = 0.0,
    difficulty: float = 0.0,
    seed: int = 0,
    change: Callable[[Row, np.random.Generator], None] | None = None,
) -> list[Row]:
    """Samples of a run: reward is quality and a little noise, and gold is the quality.

    Args:
        hack: share of the reward that is length within the prompt instead of quality.
        learning: what the quality gains over training, in its sd.
        difficulty: how much a hard prompt has less quality, and longer answers (Simpson's paradox, if not 0).
        change: changes a row.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for step in range(1, steps + 1):
        for prompt in rng.choice(of, prompts, replace=False):
            hard = prompt / of
            for _ in range(answers):
                quality = float(learning * step / steps - difficulty * hard + rng.normal())
                extra = int(rng.integers(-8, 9))
                words = max(3, int(25 + 20 * difficulty * hard + extra))
                row = {
                    "step": step,
                    "prompt": f"question {prompt}",
                    "completion": " ".join(rng.choice(WORDS, words)),
                    "reward": (1 - hack) * quality + hack * extra / 5 + 0.2 * float(rng.normal()),
                    "gold": quality,
                    "length": words,
                }
                if change:
                    change(row, rng)
                rows.append(row)
    return rows


def written(path: Path, rows: list[Row]) -> Path:
    """The rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
