"""The policy stops exploring."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log
from typing import Any, ClassVar

from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical, warning
from rlwatch.observation import Observation
from rlwatch.streaming import bounded
from rlwatch.streaming.baseline import HELD, MARGIN, LogBaseline
from rlwatch.streaming.opening import Opening
from rlwatch.streaming.progress import Progress
from rlwatch.streaming.recent import Recent

_TINY = 1e-6
_LOG_TINY = log(_TINY)
"""Nats that stand for an entropy of exactly zero on the log scale."""

_LEFT = 0.8
_LOG_LEFT = log(_LEFT)
"""Share of a reference below which the entropy has left it."""

_SHORT = 2
"""Rows away from a reference that are nothing."""


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
    shares: ClassVar[tuple[str, ...]] = ("_progress",)
    state: ClassVar[tuple[str, ...]] = (
        "_opening",
        "_before",
        "_levels",
        "_progress",
        "_differential",
        "_left_opening",
        "_left_lately",
        "_rows_judged",
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
        self._rows_judged = 0
        # The reward's mark, and the row, when the entropy was last near each reference.
        self._left_opening = [*self._progress.mark(), 0]
        self._left_lately = [*self._progress.mark(), 0]
        self._held: list[float] = []
        self._unsure: list[list[float]] = []  # marks of the last of the rows held, which may not be near
        self._low = self._high = self._near = 0.0
        self._since = 0.0  # rows since both references were near, but for those that are unsure

    def check(self, obs: Observation) -> Finding | None:
        """Judge the level of the last rows: two odd ones do not move it."""
        progress = self._progress
        if progress.followed is not obs:
            progress.follow(obs)
        rows = self._rows_judged = self._rows_judged + 1
        x = obs.signals.get("entropy")
        if x is None:
            return None
        if self._low < x < self._high and "action_std" not in obs.signals:
            mark = [progress.level, progress.var, progress.rows, rows]
            if x >= self._near:  # near both references for certain
                self._left_opening = self._left_lately = mark
                self._since = 0.0
                self._held.append(x)
                self._unsure.clear()
                if len(self._held) >= HELD:
                    self.catch_up()
                return None
            if self._since + len(self._unsure) < _SHORT and len(self._held) + 1 < HELD:
                self._held.append(x)
                self._unsure.append(mark)
                return None
        self.catch_up()
        x = bounded(x)
        if x < 0.0 or "action_std" in obs.signals:
            self._differential = True
        if self._differential:
            return None
        opening, levels = self._opening, self._levels
        if not opening.full:
            opening.push(x)
        levels.push(x)
        value = log(x) if x > _TINY else _LOG_TINY
        self._keep(x, value, [progress.level, progress.var, progress.rows, rows])
        lost = rows - min(self._left_opening[3], self._left_lately[3]) > _SHORT
        finding = self._judge(x) if lost else None
        self._before.push(value)
        self._look_ahead()
        return finding

    def _keep(self, x: float, value: float, mark: list[float]) -> None:
        """Keep where the reward stood while the entropy was near a reference; `value` is the log of x."""
        if x >= _LEFT * self._opening.level:
            self._left_opening = mark
        if value >= self._before.middle + _LOG_LEFT:
            self._left_lately = mark

    def _look_ahead(self) -> None:
        """Between which entropies the next rows are ordinary for certain, and above which near both references."""
        low, high, _, most = self._before.bounds()
        self._low = self._high = 0.0
        self._since = self._rows_judged - min(self._left_opening[3], self._left_lately[3])
        if high > low and self._opening.full and not self._differential:
            self._low, self._high = exp(max(low, _LOG_TINY) + MARGIN), exp(high - MARGIN)
            self._near = max(exp(most + _LOG_LEFT + MARGIN), _LEFT * self._opening.level)

    def catch_up(self) -> None:
        """Take in the rows that wait (see `LogBaseline.bounds`)."""
        if not self._held:
            return
        values = [log(x) for x in self._held]
        sure = len(values) - len(self._unsure)
        self._before.push_ordinary(values[:sure])
        for x, value, mark in zip(self._held[sure:], values[sure:], self._unsure, strict=True):
            self._keep(x, value, mark)
            self._before.push(value)
        self._levels.values.extend(self._held)
        self._held, self._unsure = [], []
        self._look_ahead()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._held, self._unsure, self._low, self._high = [], [], 0.0, 0.0
        super().load_state_dict(state)

    def blind(self) -> tuple[str, str]:
        """Differential entropy passes zero in health: no ratio of it means anything."""
        if not self._differential:
            return "", ""
        return "this entropy is differential (continuous actions), its ratios mean nothing", "watch action_std instead"

    def _judge(self, x: float) -> Finding | None:
        """From which reference it fell, and whether the reward excuses it."""
        level, lasting = self._levels.median_of(5), self._levels.median_of(7)
        if level is None or not self._opening.full:
            return None
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
        rows = self._rows_judged - mark[3] + 1
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
            "rows_since_onset": min(self.lag, 2 * int(rows) + 5),  # with room: the fall begins before it shows
        }
        if level <= limits.critical_ratio * reference:
            return critical(text, **evidence)
        return warning(text, **evidence)
