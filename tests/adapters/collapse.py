"""One induced collapse for every framework: the same rewards at the same step, whatever is trained."""

from __future__ import annotations

from typing import Any

import numpy as np

ONSET = 40
"""The step of the first fallen rewards, counted from 1."""
STEPS = 70
SAMPLES = 8
DETECTOR = "reward_collapse"
FIRST = 44
"""The step at which `Watch.log` alone gives its first alert; test_same_collapse.py measures it."""


def rewards(step: int) -> list[float]:
    """The rewards of one step: about 0.6 with noise, from `ONSET` on about 0.02; float (`SAMPLES`,)."""
    noise = np.random.default_rng(step).standard_normal(SAMPLES)
    mean, spread = (0.6, 0.1) if step < ONSET else (0.02, 0.01)
    return [float(x) for x in mean + spread * noise]


def alerted(watch: Any, steps_a_row: int = 1) -> int:
    """The row of the first alert of `DETECTOR`; asserts that nothing alarmed before the onset."""
    told = [(alert.detector, alert.step // steps_a_row) for alert in watch.alerts]
    assert [(detector, row) for detector, row in told if row < ONSET] == []
    rows = [row for detector, row in told if detector == DETECTOR]
    assert rows, told
    return rows[0]
