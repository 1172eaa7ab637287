"""The policy stops exploring."""

from __future__ import annotations

from math import log
from typing import Any, ClassVar

from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical, warning
from rlwatch.observation import Observation
from rlwatch.streaming import bounded
from rlwatch.streaming.baseline import LogBaseline
from rlwatch.streaming.opening import Opening
from rlwatch.streaming.progress import Progress
from rlwatch.streaming.recent import Recent

_TINY = 1e-6
_LOG_TINY = log(_TINY)
"""Nats that stand for an entropy of exactly zero on the log scale."""

_LEFT = 0.8
_LOG_LEFT = log(_LEFT)
"""Share of a reference below which the entropy has left it."""


class EntropyCollapse(Detector):
    """Entropy a fraction of what it was, and the reward does not pay for it.

    Levels differ too much between runs (healthy LLM policies sit at .05-.6 nats, others at 2-4) for an absolute limit,
    so the level of some rows is compared with the run's opening and with its last 64 rows. A falling entropy with a
    rising reward is convergence: measured, a run that solves GSM8K falls from .35 to .07 nats while its reward goes to
    .98; collapses end at .03 or less with the reward flat. R = -a exp(H) + b (Cui et al. 2025) says the same.

    Differential entropy (continuous actions) passes zero in health and has no ratio: once it is recognised, only its
    absence of meaning is reported.
    """

    id: ClassVar[str] = "entropy_collapse"
    link: ClassVar[Link] = Link.EXPLORATION
    needs: ClassVar[tuple[str, ...]] = ("entropy",)
    warmup: ClassVar[int] = 6
    lag: ClassVar[int] = 30
    state: ClassVar[tuple[str, ...]] = (
        "_opening",
        "_before",
        "_levels",
        "_progress",
        "_differential",
        "_left_opening",
        "_left_lately",
    )

    class Settings(DetectorSettings):
        """Compared are the median of 7 rows with the run's opening, and the median of 5 with its last 64 rows."""

        warning_ratio: float = Field(0.15, gt=0, lt=1, description="share of the opening that warns")
        critical_ratio: float = Field(0.1, gt=0, lt=1, description="share of the opening or the last rows: critical")
        sudden_ratio: float = Field(0.3, gt=0, lt=1, description="share of the last 64 rows that warns")
        sudden_sigma: float = Field(4.0, gt=0, description="sigmas of the last 64 rows (log scale) it must fall, too")
        floor: float = Field(0.02, ge=0, description="a reference below this (nats) is low from the start: no alarm")

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._opening = Opening(5)
        self._before = LogBaseline(64)
        self._levels = Recent(7)
        self._progress = Progress()
        self._differential = False
        # The reward's mark when the entropy was last near each reference.
        self._left_opening = self._progress.mark()
        self._left_lately = self._progress.mark()

    def check(self, obs: Observation) -> Finding | None:
        """Judge the level of the last rows: two odd ones do not move it."""
        self._progress.push(obs.signals.get("reward_mean"))
        x = obs.signals.get("entropy")
        if x is None:
            return None
        x = bounded(x)
        if x < 0.0 or "action_std" in obs.signals:
            self._differential = True
        if self._differential:
            return None
        self._opening.push(x)
        levels = self._levels
        levels.push(x)
        value = log(x) if x > _TINY else _LOG_TINY
        since_opening, since_lately = self._left_opening, self._left_lately
        if x >= _LEFT * self._opening.level:
            since_opening[:] = self._progress.mark()
        if value >= self._before.middle + _LOG_LEFT:
            since_lately[:] = self._progress.mark()
        finding = None
        rows = self._progress.rows_seen
        level = levels.median_of(5) if rows - min(since_opening[3], since_lately[3]) > 2 else None
        if level is not None and len(self._opening) == self._opening.size:
            finding = self._judge(x, level, levels.median_of(7))
        self._before.push(value)
        return finding

    def blind(self) -> tuple[str, str]:
        """Differential entropy passes zero in health: no ratio of it means anything."""
        if not self._differential:
            return "", ""
        return "this entropy is differential (continuous actions), its ratios mean nothing", "watch action_std instead"

    def _judge(self, x: float, level: float, lasting: float | None) -> Finding | None:
        """From which reference it fell, and whether the reward excuses it."""
        limits, before, opening = self.settings, self._before, self._opening.level
        lately = before.center
        sudden = (
            lately >= limits.floor
            and level <= limits.sudden_ratio * lately
            and log(max(level, _TINY)) < before.middle - limits.sudden_sigma * before.sigma
        )
        slow = lasting is not None and opening >= limits.floor and lasting <= limits.warning_ratio * opening
        if not sudden and not slow:
            return None
        known = self._progress.rows > 0
        mark = self._left_lately if sudden else self._left_opening
        if known and self._progress.rising_since(mark):
            return None
        rows = self._progress.rows_seen - mark[3] + 1
        reference = lately if sudden else opening
        level = level if sudden or lasting is None else lasting
        text = f"Policy entropy dropped from {reference:.3g} to {level:.3g} over {rows:.0f} consecutive steps"
        evidence = {
            "entropy": x,
            "level": level,
            "opening": opening,
            "last_64_rows": lately,
            "ratio": level / reference,
            "reward_rising": False if known else "unknown: no reward is logged",
        }
        if level <= limits.critical_ratio * reference:
            return critical(text, **evidence)
        return warning(text, **evidence)
