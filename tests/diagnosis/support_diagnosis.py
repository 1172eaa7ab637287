"""Alerts by hand, and synthetic runs with the two failures that the field guides walk through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rlwatch.alert import Alert, Severity


def alert(detector: str, step: int, severity: str = "warning", **evidence: Any) -> Alert:
    """An alert whose message names it."""
    text = f"{detector} spoke at {step}"
    return Alert(detector, Severity(severity), step, text, evidence, f"playbook/{detector}.md", f"fix {detector}")


def critical(detector: str, step: int, **evidence: Any) -> Alert:
    """The same, critical."""
    return alert(detector, step, "critical", **evidence)


def calm(rng: np.random.Generator) -> dict[str, Any]:
    """A row of a healthy run, for what the failure does not concern."""
    return {
        "gold_score": 0.5 + float(rng.normal(0, 0.02)),
        "entropy": 0.3 * float(rng.lognormal(0, 0.05)),
        "kl": 0.05 * float(rng.lognormal(0, 0.2)),
        "grad_norm": 0.4 * float(rng.lognormal(0, 0.3)),
        "loss": float(rng.normal(0, 0.05)),
        "step_time": 7.5,
    }


def length_hacking(rows: int = 300, gold: bool = True) -> Iterator[dict[str, Any]]:
    """From row 60 the reward rises with the length of the responses, and the gold score stays where it was."""
    rng = np.random.default_rng(0)
    for row in range(rows):
        x = max(0, row - 60) / (rows - 60)
        lengths = rng.normal(200 * (1 + 1.5 * x), 20 * (1 + x), 32).clip(10)
        rewards = 0.4 + 0.4 * x + 0.0015 * (lengths - lengths.mean()) + rng.normal(0, 0.02, 32)
        signals = calm(rng)
        if not gold:
            del signals["gold_score"]
        yield {**signals, "rewards": rewards, "response_lengths": lengths}


def too_aggressive(rows: int = 160, onset: int = 100, clip: bool = True) -> Iterator[dict[str, Any]]:
    """From row `onset` on KL shoots up, the clip fraction goes to .55, and the reward falls to a tenth in ten rows."""
    rng = np.random.default_rng(0)
    for row in range(rows):
        x = min(1.0, max(0, row - onset + 1) / 10)
        rewards = 0.7 * (1 - 0.9 * x) + rng.normal(0, 0.03, 32)
        signals = calm(rng) | {"kl": (0.05 + 1.5 * x) * float(rng.lognormal(0, 0.15)), "rewards": rewards}
        if clip:
            signals["clip_fraction"] = min(1.0, (0.05 + 0.5 * x) * float(rng.lognormal(0, 0.05)))
        yield signals
