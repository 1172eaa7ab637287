"""Which signals a report draws, in which order, and what stands in each drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlwatch.detectors.registry import detector_classes
from rlwatch.observation import FloatArray
from rlwatch.report.band import Band, band_of
from rlwatch.report.data import RunData
from rlwatch.report.downsample import Thinned, thin
from rlwatch.signals import SIGNALS

MAIN = 12
MORE = 24
MAIN_POINTS = 1000
MORE_POINTS = 300
KNOTS = 100

FIRST = (
    "reward_mean", "gold_score", "reward_std", "response_length_mean", "truncation_rate", "kl", "approx_kl", "entropy",
    "clip_fraction", "loss", "value_loss", "explained_variance", "grad_norm", "advantage_std", "reward_margin",
    "reward_accuracy", "frac_reward_zero_std", "rollout_logprob_diff", "ess", "staleness", "kl_coef", "learning_rate",
    "step_time", "episode_length_mean", "policy_loss", "update_norm", "tokens_per_second",
)  # fmt: skip
"""What is drawn if there is room, after the signals that an alert is about."""

_COUNTERS = frozenset(("num_tokens", "env_steps"))
"""They only ever rise: a line that says nothing."""

_HEAVY = 50.0
"""Times the median from which on a positive signal is drawn on a logarithmic axis."""


class Panel(NamedTuple):
    """One signal, ready to be drawn; `low` and `high` are the ends of the vertical axis."""

    name: str
    unit: str
    meaning: str
    log: bool
    points: Thinned
    band: Band
    bad: list[tuple[int, str]]
    low: float
    high: float

    @property
    def label(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ")

    @property
    def extremes(self) -> tuple[float, int, float, int] | None:
        """Smallest value and its step, largest value and its step."""
        steps, values, _ = self.points
        if not len(values):
            return None
        least, most = int(values.argmin()), int(values.argmax())
        return float(values[least]), int(steps[least]), float(values[most]), int(steps[most])

    @property
    def last(self) -> float | None:
        """The last finite value."""
        return float(self.points.values[-1]) if len(self.points.values) else None


def panels_of(run: RunData, room: float = 1.0) -> tuple[list[Panel], list[Panel], list[str]]:
    """The drawings above, those below, and the names for which there was no room.

    room: the share of the usual number of points and of further drawings.
    """
    drawable = [name for name, column in run.signals.items() if name in run.nonfinite or np.isfinite(column).any()]
    first = _by_importance(run, drawable)
    main = sorted(first[:MAIN], key=drawable.index)
    end = MAIN + int(MORE * room)
    more = sorted(first[MAIN:end], key=drawable.index)
    points = max(60, int(MAIN_POINTS * room)), max(60, int(MORE_POINTS * room))
    left = sorted(first[end:], key=drawable.index)
    return [_panel(run, name, points[0]) for name in main], [_panel(run, name, points[1]) for name in more], left


def panels_named(run: RunData, names: Sequence[str], points: int) -> list[Panel]:
    """The drawings of some signals, those of them that were recorded."""
    return [_panel(run, name, points) for name in names if name in run.signals]


def _by_importance(run: RunData, names: Sequence[str]) -> list[str]:
    told = told_of(run)
    order = {name: place for place, name in enumerate(FIRST)}

    def place(name: str) -> tuple[bool, bool, int, bool]:
        return (name not in told, name in _COUNTERS, order.get(name, len(order)), name not in SIGNALS)

    return sorted(names, key=place)


def told_of(run: RunData) -> set[str]:
    """The signals that the run's alerts are about: what their detectors read, and what they name."""
    kinds = detector_classes()
    told: set[str] = set(run.nonfinite)
    for alert in run.alerts:
        named = alert.evidence.get("signal")
        if isinstance(named, str):
            told.add(named)
        elif alert.detector in kinds:
            for need in kinds[alert.detector].needs:
                told |= {need, SIGNALS[need].twin if need in SIGNALS else ""}
        told |= alert.evidence.keys() & run.signals.keys()
    return told


def _panel(run: RunData, name: str, points: int) -> Panel:
    column = run.signals[name]
    finite = column[np.isfinite(column)]
    log = len(finite) > 1 and float(finite.min()) > 0.0 and float(finite.max()) > _HEAVY * _middle(finite)
    thinned = thin(run.steps, column, points)
    band = band_of(run.steps, column, run.given_up, log=log, knots=KNOTS)
    low, high = _ends(thinned, band, log)
    signal = SIGNALS.get(name)
    unit, meaning = (signal.unit, signal.meaning) if signal else ("", "A number under a key that no alias knows.")
    return Panel(name, "" if unit == "1" else unit, meaning, log, thinned, band, run.nonfinite.get(name, []), low, high)


def _middle(values: FloatArray) -> float:
    """The median; of values near the largest that there are, infinity."""
    with np.errstate(over="ignore"):
        return float(np.median(values))


def _ends(points: Thinned, band: Band, log: bool) -> tuple[float, float]:
    """The axis holds all values, and of the band what does not flatten them."""
    if not len(points.values):
        return 0.0, 1.0
    low, high = float(points.values.min()), float(points.values.max())
    if log:
        return low / 1.3, high * 1.3 if high < 1e300 else high
    span = high - low
    if not math.isfinite(span):
        return low, high
    if len(band.low):
        low = min(low, max(float(band.low.min()), low - 0.3 * span))
        high = max(high, min(float(band.high.max()), high + 0.3 * span))
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    ends = low - margin, high + margin
    return ends if all(map(math.isfinite, ends)) else (low, high)
