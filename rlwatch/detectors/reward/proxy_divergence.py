"""The reward goes up, and what it stands for does not."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical, warning
from rlwatch.observation import Observation
from rlwatch.streaming import bounded, correlation
from rlwatch.streaming.opening import Opening
from rlwatch.streaming.pace import Pace
from rlwatch.streaming.recent import Recent

_FEWEST = 5
"""Gold scores that it takes to judge."""

_LOST, _LOST_IN_A_ROW, _LOST_ROW = 0.5, 2, 24
"""Share of the best gold, and scores in a row below it, that are a loss; before this row the best is not known yet."""

_LOST_NOISE = 3.0
"""Standard deviations of a score that it must lie below the best."""

_PATIENCE, _LONG_PATIENCE = 2, 10
"""Gold scores in a row that must be left behind: few where both are shares, many where the proxy's scale is free."""


class ProxyDivergence(Detector):
    """Reward (the proxy) against gold: a held-out score, an evaluation, a stricter check.

    The guard of the field: proxy up 10 % with gold down 5 %, since gold was at its best (over-optimisation bends gold
    down after it rose: Gao et al. 2022). And a proxy up by 30 % that gold does not follow: by a tenth of the gain where
    both are shares (measured: programs that compile .20 -> .63, that are correct .001 -> .004), by 5 % elsewhere. Both
    must be more than noise. Gold may be sparse: each score is held against the rewards since the one before.
    Gold that has lost half of its best, two scores in a row, while the proxy holds is critical: what the run is for is
    being unlearnt (measured: no such pair in the gym's healthy runs, benchmarks/gym).
    Per-sample gold scores give the correlation with the reward, whose fall is the earliest sign.
    """

    id: ClassVar[str] = "proxy_divergence"
    link: ClassVar[Link] = Link.REWARD
    core: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("gold_score", "gold_scores")
    warmup: ClassVar[int] = _FEWEST
    state: ClassVar[tuple[str, ...]] = (
        "_proxy",
        "_gold",
        "_sum",
        "_count",
        "_best",
        "_at_best",
        "_flat",
        "_low",
        "_since_high",
        "_row",
        "_agreed",
        "_agrees",
        "_spread",
        "_spread_now",
    )

    class Settings(DetectorSettings):
        """Shares of the level that the proxy or gold had."""

        rearm: int = Field(3, ge=1, description="gold scores without trouble after which it counts as over")
        proxy_up: float = Field(0.1, gt=0, description="rise of the proxy since gold was best that counts")
        gold_down: float = Field(0.05, gt=0, description="fall of gold since then that counts")
        gold_lost: float = Field(0.15, gt=0, description="fall of gold that is critical")
        alone_up: float = Field(0.3, gt=0, description="rise of the proxy since the start that gold must follow")
        gold_share: float = Field(0.1, gt=0, description="share of the proxy's gain that gold must move by, of shares")
        gold_up: float = Field(0.05, gt=0, description="rise of gold that is a following, for other scores")
        correlation_loss: float = Field(0.3, gt=0, description="fall of the correlation over samples that warns")
        sigma: float = Field(5.0, gt=0, description="standard errors that each change must exceed")

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._proxy, self._gold = Pace(), Pace()
        self._sum, self._count = 0.0, 0
        self._best = self._at_best = 0.0
        self._flat = self._low = self._since_high = self._row = 0
        self._agreed, self._agrees = Opening(5), Recent(5)
        self._spread, self._spread_now = Opening(10), Recent(5)

    def between(self, obs: Observation) -> None:
        """Rewards, and rows, count without gold, too."""
        reward = obs.signals.get("reward_mean")
        if reward is not None:
            self._sum += bounded(reward)
            self._count += 1
        self._since_high += 1
        self._row += 1

    def check(self, obs: Observation) -> Finding | None:
        """Judge at each gold score."""
        self.between(obs)
        gold = obs.signals.get("gold_score")
        if gold is None or (not self._count and not self._proxy.count):
            return None
        proxy = self._proxy
        proxy.push(self._sum / self._count if self._count else proxy.now)
        self._sum, self._count = 0.0, 0
        self._gold.push(gold)
        spread = obs.signals.get("reward_std")
        if spread is not None:
            self._spread.push(spread)
            self._spread_now.push(spread)
        self._agree(obs)
        if self._gold.count <= 3 or self._gold.mean > self._best:
            self._best, self._at_best = self._gold.mean, proxy.mean
        if gold >= 0.9 * self._best:
            self._since_high = 0
        if self._gold.count < _FEWEST:
            return None
        return self._lost(gold) or self._turned() or self._left_behind() or self._parted()

    def _lost(self, gold: float) -> Finding | None:
        """Gold has fallen to half of its best and the proxy has not fallen; below zero there is no half."""
        best = self._best
        low = 0.0 <= gold < _LOST * best and best - gold > _LOST_NOISE * self._gold.noise
        low = low and self._proxy.now >= self._at_best - 0.1 * abs(self._at_best)
        self._low = self._low + 1 if low else 0
        if self._low < _LOST_IN_A_ROW or self._row < _LOST_ROW:
            return None
        text = f"Gold fell to {gold / best:.2f} of its best, from {best:.3g} to {gold:.3g}, and the reward did not"
        return critical(text, **self._evidence())

    def _turned(self) -> Finding | None:
        """Gold has passed its best while the proxy went on."""
        limits, proxy, gold = self.settings, self._proxy, self._gold
        up, down = proxy.mean - self._at_best, self._best - gold.mean
        if up <= 0.0 or down <= 0.5 * limits.gold_down * abs(self._best):
            return None
        up, down = proxy.now - self._at_best, self._best - gold.now
        scale, gold_scale = _scale(self._at_best, proxy), _scale(self._best, gold)
        if up < limits.proxy_up * scale or down < limits.gold_down * gold_scale:
            return None
        if proxy.unit and gold.unit and down < limits.gold_share * up:
            return None
        if up < limits.sigma * proxy.error_from_mean or down < limits.sigma * gold.error_from_mean:
            return None
        text = (
            f"Proxy up {up / scale:.0%} ({self._at_best:.3g} to {proxy.now:.3g}), gold down {down / gold_scale:.0%} "
            f"({self._best:.3g} to {gold.now:.3g}) since gold was at its best"
        )
        if down >= limits.gold_lost * gold_scale and down > 1.5 * limits.sigma * gold.error_from_mean:
            return critical(text, **self._evidence())
        return warning(text, **self._evidence())

    def _left_behind(self) -> Finding | None:
        """The proxy gains much, gold next to nothing, several times in a row, since gold may follow late."""
        limits, proxy, gold = self.settings, self._proxy, self._gold
        opening = proxy.opening
        if proxy.mean - opening < 0.5 * limits.alone_up * abs(opening):
            self._flat = 0
            return None
        shares, ahead = proxy.unit and gold.unit, gold.mean - gold.opening
        far = ahead > 2.0 * limits.gold_up * abs(gold.opening)
        if far and (not shares or ahead > 2.0 * limits.gold_share * (proxy.mean - opening)):
            self._flat = 0
            return None
        gain, scale = proxy.gain, _scale(opening, proxy)
        most = gold.gain + 2.0 * gold.error
        follows = most >= limits.gold_up * _scale(gold.opening, gold)
        if shares:
            follows = follows and most >= limits.gold_share * gain
        if follows or gain < limits.alone_up * scale or gain < limits.sigma * proxy.error:
            self._flat = 0
            return None
        self._flat += 1
        if self._flat < (_PATIENCE if shares else _LONG_PATIENCE):
            return None
        return warning(
            f"Proxy up {gain / scale:.0%} ({opening:.3g} to {proxy.now:.3g}) and gold does not follow: "
            f"{gold.opening:.3g} to {gold.now:.3g}",
            **self._evidence(),
        )

    def _parted(self) -> Finding | None:
        """Reward and gold of the samples go together less than they did."""
        agrees = self._agrees.median_of(5)
        agreed = self._agreed.level
        if agrees is None or agrees > agreed - self.settings.correlation_loss or agrees > 0.5 * agreed:
            return None
        if self._proxy.gain <= 2.0 * self._proxy.error:
            return None
        return warning(
            f"Correlation of reward and gold over samples fell from {agreed:.2f} to {agrees:.2f} while the reward rose",
            **self._evidence(),
        )

    def _agree(self, obs: Observation) -> None:
        rewards, scores = obs.samples.get("rewards"), obs.samples.get("gold_scores")
        if rewards is None or scores is None:
            return
        r = correlation.of_samples(np.asarray(rewards), np.asarray(scores))
        if r is not None:
            self._agreed.push(r)
            self._agrees.push(r)

    def _evidence(self) -> dict[str, Any]:
        proxy, gold = self._proxy, self._gold
        evidence: dict[str, Any] = {
            "proxy": [proxy.opening, proxy.now],
            "gold": [gold.opening, gold.now],
            "gold_best": self._best,
            "proxy_at_gold_best": self._at_best,
            "standard_errors": [proxy.error, gold.error],
            "gold_scores_seen": gold.count,
            "rows_since_onset": 2 * self._since_high,
        }
        if len(self._agreed):
            evidence["sample_correlation"] = [self._agreed.level, self._agrees.values[-1]]
        spread = self._spread_now.median_of(5)
        if spread is not None:
            evidence["reward_std"] = [self._spread.level, spread]
        return evidence


def _scale(level: float, pace: Pace) -> float:
    """What a change is a share of: the level, but no less than twice the noise, below which a level is near zero."""
    return max(abs(level), 2.0 * pace.noise, 1e-12)
