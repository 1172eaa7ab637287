"""Logs for the offline tests, made on the spot."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support_determinism import CHAOS, PYTHON


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes dicts as JSON lines under the test's folder, NaN and Infinity as Python's bare tokens."""

    def writer(name: str, *dicts: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in dicts))
        return path

    return writer


@pytest.fixture
def healthy() -> list[dict[str, Any]]:
    """60 rows of a quiet run, in Hugging Face names."""
    draw = random.Random(7)
    return [
        {
            "step": step,
            "loss": draw.gauss(0.0, 0.01),
            "grad_norm": math.exp(draw.gauss(0.0, 0.2)),
            "kl": abs(draw.gauss(0.05, 0.005)),
            "entropy": draw.gauss(0.4, 0.01),
            "reward": draw.gauss(0.5, 0.05),
            "reward_std": abs(draw.gauss(0.3, 0.02)),
        }
        for step in range(1, 61)
    ]


@pytest.fixture
def broken(healthy: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rows with a KL that doubles from step 31 on, and a NaN loss at step 51."""
    healthy = [dict(row) for row in healthy]
    for index, row in enumerate(healthy[30:]):
        row["kl"] = 0.05 * 2**index
    healthy[50]["loss"] = math.nan
    return healthy


@pytest.fixture
def script(elsewhere: Path) -> Callable[..., str]:
    """Writes a training script into the working directory, and gives its command."""

    def maker(change: str = "pass", code: str = CHAOS, args: str = "{out}") -> str:
        (elsewhere / "train.py").write_text(code.replace("CHANGE", change))
        return f"{PYTHON} train.py {args}"

    return maker
