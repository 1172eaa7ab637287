"""The spread of the reward grows far beyond what it was."""

from __future__ import annotations

from collections.abc import Container
from math import inf, sqrt
from typing import Any, ClassVar

from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical, warning
from rlwatch.observation import Observation
from rlwatch.streaming import positive
from rlwatch.streaming.gate import Passage
from rlwatch.streaming.surge import Surge


class RewardVarianceExplosion(Detector):
    """Reward standard deviation several times its baseline: some samples found an exploit, or the scale broke.

    A 0/1 verifier's spread follows its success rate (sqrt(m(1-m)), at most .5), so a spread that a 0/1 reward could
    have is never an explosion. A spread that is gone for long means that nothing can be learnt (measured: exactly 0
    in 36 % of the steps of the median healthy run, so the rows are counted).
    """

    id: ClassVar[str] = "reward_variance_explosion"
    link: ClassVar[Link] = Link.REWARD
    needs: ClassVar[tuple[str, ...]] = ("reward_std",)
    warmup: ClassVar[int] = 8
    lag: ClassVar[int] = 10
    state: ClassVar[tuple[str, ...]] = ("_surge", "_best")

    class Settings(DetectorSettings):
        """Ratios are of standard deviations."""

        warning_times: float = Field(3.0, gt=1, description="times the baseline, median of 5 rows")
        critical_times: float = Field(8.0, gt=1, description="times the baseline, median of 7 rows")
        sigma: float = Field(4.0, gt=0, description="sigmas above the baseline that must be passed as well")
        gone_rows: int = Field(60, ge=1, description="rows in a row without any spread that warn")

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._surge = Surge(sigma=0.2)
        self._best: float | None = None

    def gate(self, signals: Container[str]) -> Passage | None:
        """Ordinary deviations may wait where the mean is no record."""
        if "reward_std" not in signals:
            return None
        return Passage("reward_std", self._surge.gate, other="reward_mean" if "reward_mean" in signals else "")

    def catch_up(self) -> None:
        """Take in the rows that wait."""
        self._surge.catch_up()

    def check(self, obs: Observation) -> Finding | None:
        """Judge the standard deviation of the batch."""
        std = obs.signals.get("reward_std")
        mean = obs.signals.get("reward_mean")
        if std is None:
            return None
        if mean is not None and (self._best is None or mean > self._best):
            self._best = mean
        self._surge.gate.most = -inf if self._best is None else self._best
        if self._surge.quiet(std):
            return None
        std = positive(std)
        limits = self.settings
        now = self._surge.push(std)
        gone = self._surge.gone
        if gone >= limits.gone_rows and not self._finished(mean):
            return warning(
                f"Reward variance collapsed: the standard deviation has been {std:.3g} for {gone} steps "
                f"(it was {self._surge.gone_from:.3g}), there is nothing to learn from",
                reward_std=std, rows=gone, level_before=self._surge.gone_from, reward_mean=mean,
            )
        if now is None or not now.new or now.sigmas < limits.sigma or now.times < limits.warning_times:
            return None
        if _could_be_binary(now.level, mean):
            return None
        squared = now.times * now.times
        text = f"Reward variance exploded {squared:.3g}x above baseline (standard deviation {now.times:.3g}x)"
        evidence = {"reward_std": std, "median_of_5": now.level, "baseline": now.center, "times": now.times}
        if now.unseen and now.lasting_times > limits.critical_times and now.lasting_sigmas > limits.sigma:
            return critical(text, **evidence)
        return warning(text, **evidence)

    def _finished(self, mean: float | None) -> bool:
        """All samples alike because all are as good as the best: the task is solved, not dead."""
        if mean is None or self._best is None:
            return False
        return mean > 0 and mean >= 0.98 * self._best


def _could_be_binary(std: float, mean: float | None) -> bool:
    """Whether a reward of 0s and 1s with this mean could have this spread."""
    if mean is None or not 0.0 <= mean <= 1.0:
        return False
    return std <= 1.1 * sqrt(mean * (1.0 - mean)) + 0.05
