"""The reward loses what it had reached."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical, warning
from rlwatch.observation import Observation
from rlwatch.streaming.recent import Recent
from rlwatch.streaming.standing import Fall, Standing

_CALM, _NOISY = {3: 0.02, 5: 0.12, 8: 0.3, 16: 0.5}, {32: 1.0, 60: 1.0}
"""Rows looked at: a few where rows agree with each other, many where a row is mostly noise. Each with the share of
earlier rows that may have been as low, (low + 1) / (all + 2): where single rows often are, or few have been seen, a few
low rows are no news."""

_CALM_NOISE = 0.25
"""Noise of a row, as a share of the reward's height, up to which a few rows are evidence."""

_YOUNG, _YOUNG_SHARE = 24, 0.67
"""Before this row a fall must go deeper and is not critical yet: neither the peak nor the noise is well known."""

_HIGH, _MEAN_ROWS = 0.1, 20
"""A fall began when the running mean, of so many rows, was last within this share of its peak: slow falls began far
earlier than a detector's usual lag, and the state to go back to is from before."""

_SURE = 1.25
"""Times the standard errors of a warning that make a critical, and that noisy rows take to warn."""


class RewardCollapse(Detector):
    """The level of the last rows is a small share of the reward's earlier peak.

    Measured: over healthy runs the rolling reward never falls below .35 of its earlier peak (p5 .40), 10 of 12
    collapses go below .3. The noise of a row decides how many rows are evidence: where rows agree, three (single and
    double dips that recover are common); where a row is the mean of 4 to 8 verified answers, 32 or 60, against a peak
    that is itself a mean of about 65 rows. Where rewards may be negative the share is of the range, not of the peak.
    """

    id: ClassVar[str] = "reward_collapse"
    link: ClassVar[Link] = Link.REWARD
    core: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("reward_mean", "rewards")
    warmup: ClassVar[int] = 8
    shares: ClassVar[tuple[str, ...]] = ("_standing",)
    state: ClassVar[tuple[str, ...]] = (
        "_standing", "_lows", "_low_share", "_since_high", "_gold_best", "_gold_low", "_row", "_judged",
    )  # fmt: skip

    class Settings(DetectorSettings):
        """Shares are of the distance from the floor (0, or the lowest level where rewards are negative) to the peak."""

        warning_left: float = Field(0.3, gt=0, lt=1, description="share of the peak's height left that warns")
        critical_left: float = Field(0.15, gt=0, lt=1, description="share left over 5 rows or more that is critical")
        sigma: float = Field(6.0, gt=0, description="standard errors that the fall must exceed")

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._standing = Standing()
        self._lows = 0
        self._low_share = Recent(17)
        self._since_high = self._row = self._judged = 0
        self._gold_best, self._gold_low = 0.0, False

    def between(self, obs: Observation) -> None:
        """Rows count without a reward, too."""
        self._row += 1

    def check(self, obs: Observation) -> Finding | None:
        """Judge the level of the last rows when this row is low itself."""
        self._row += 1
        self._judged += 1
        gold = obs.signals.get("gold_score")
        if gold is not None:
            self._gold_best = max(self._gold_best, gold)
            self._gold_low = 0.0 <= gold < 0.5 * self._gold_best
        x = obs.signals.get("reward_mean")
        if x is None:
            return None
        standing = self._standing
        standing.follow(obs)
        height = standing.height
        self._since_high = 0 if standing.mean >= standing.peak - _HIGH * height else self._since_high + 1
        low = x <= standing.peak - (1.0 - self.settings.warning_left) * height
        self._lows += low
        self._low_share.push((self._lows + 1) / (standing.rows + 2))
        if not low or height <= 0.0:
            return None
        fall, noise = None, _CALM_NOISE * height
        if standing.noise(5)[0] < 1.5 * noise:
            fall = self._lowest(_CALM, noise)
        if fall is None and standing.mean < standing.slow_peak - 0.5 * height:
            fall = self._lowest(_NOISY, 0.0)
        return None if fall is None else self._finding(x, fall)

    def _lowest(self, spans: dict[int, float], noise: float) -> Fall | None:
        """The fall that leaves least, of those that are sure; spans with more than this noise are no evidence."""
        limits, standing = self.settings, self._standing
        found: Fall | None = None
        shares = self._low_share.values
        for rows, often in spans.items():
            if (noise and standing.noise(rows)[0] > noise) or shares[-min(len(shares), rows + 1)] > often:
                continue
            fall = standing.fall(rows)
            most = limits.warning_left if standing.rows >= _YOUNG else _YOUNG_SHARE * limits.warning_left
            if fall is None or fall.left > most or fall.sigmas < limits.sigma * (1.0 if noise else _SURE):
                continue
            if found is None or fall.left < limits.critical_left:
                found = fall
        return found

    def _finding(self, x: float, fall: Fall) -> Finding:
        of = "of the range up to its peak" if self._standing.signed else "of its peak"
        text = (
            f"Reward fell to {max(0.0, fall.left):.2f} {of}: "
            f"{fall.level:.3g} over the last {fall.rows} steps, {fall.peak:.3g} at its best"
        )
        evidence = {
            "reward": x,
            "level": fall.level,
            "rows": fall.rows,
            "peak": fall.peak,
            "left": fall.left,
            "sigma": fall.sigmas,
            "lowest_before_peak": self._standing.low,
            "rows_since_onset": round((self._since_high + _MEAN_ROWS) * self._row / self._judged),
        }
        limits = self.settings
        sure = fall.rows >= 5 and fall.sigmas > _SURE * limits.sigma and self._standing.rows >= _YOUNG
        if fall.left < limits.critical_left and sure:
            return critical(text, **evidence)
        if self._gold_low and self._standing.rows >= _YOUNG:
            return critical(f"{text}; the evaluation has lost half as well", gold_best=self._gold_best, **evidence)
        return warning(text, **evidence)
