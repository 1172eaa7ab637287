"""The critic does not predict the returns: the advantages made with it are noise."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical, warning
from rlwatch.observation import Observation
from rlwatch.streaming import bounded, positive
from rlwatch.streaming.level import Level
from rlwatch.streaming.means import Means
from rlwatch.streaming.opening import Opening
from rlwatch.streaming.progress import Progress
from rlwatch.streaming.recent import Recent
from rlwatch.streaming.streak import Streak
from rlwatch.streaming.surge import Reading, Surge

_STRIDE = 3
"""Rows between two looks at the value loss's baseline and at the scale: both move slowly, and looking costs time."""

_IMPROVES = 0.05
"""Gain of the explained variance over some 20 rows that counts as a critic still learning."""

_NOTHING = 0.01
"""Explained variance of a critic that is as good as none."""

_EXPLAINS = 0.2
"""Explained variance above which a large value loss comes from large returns, not from the critic."""


_FITTED, _UNFITTED, _LOST_ROWS = 0.3, 0.1, 15
"""Explained variance (mean of some 33 rows) of a critic that fits, that of a row in which nothing is left of the fit,
and such rows, net of the others, after which it is lost."""


class ValueFailure(Detector):
    """Explained variance below zero for long, a value loss that blows up, or values far below the returns.

    Explained variance, 1 - Var(returns - values) / Var(returns), is 0 for a critic that predicts the mean. Measured
    (Stable-Baselines3): it is -.6 to -2 in the first row of most PPO runs, NaN or about 0 on single rows of A2C for
    as long as it goes on, and far below 0 for ever in a PPO that has *solved* its task, since returns without variance
    cannot be explained: CartPole at its maximum of 500 has -.1 to -1 while its value loss is a millionth of what it
    was. So it must last, not be improving, and the value loss must not have fallen; where that is not logged, the
    reward must not have risen. While the reward climbs, a critic below zero does no harm that anybody has to see to.
    An explained variance of about 0 takes three times as long, and both.

    The value loss grows with the square of the returns, and from nothing to something at a sparse task's first success:
    a blow-up is a level that the run has never seen while the reward does not rise, or a slow growth that no reward
    explains. It is critical only beside an explained variance that stays below 0, or that was high and is lost: returns
    that grow because the policy learns keep a critic that follows, or a reward that goes on rising.
    """

    id: ClassVar[str] = "value_failure"
    link: ClassVar[Link] = Link.CRITIC
    core: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("explained_variance", "value_loss", "values", "value_mean")
    warmup: ClassVar[int] = 10
    shares: ClassVar[tuple[str, ...]] = ("_progress",)
    state: ClassVar[tuple[str, ...]] = (
        "_explained", "_last", "_negative", "_useless", "_surge", "_loss", "_opening", "_reward", "_progress",
        "_value", "_return", "_spread", "_small", "_grown", "_turn", "_fitted", "_lost",
    )  # fmt: skip

    class Settings(DetectorSettings):
        """Rows are net of the rows without the trouble."""

        cooldown: int = Field(100, ge=0, description="rows after an alert in which it is not repeated")
        rearm: int = Field(30, ge=1, description="quiet rows after which the trouble counts as over")
        explained: float = Field(-0.1, le=0, description="mean of 10 rows below which a row counts")
        rows: int = Field(30, ge=5, description="such rows that warn")
        loss_times: float = Field(20.0, gt=1, description="times its baseline or its opening at which it warns")
        loss_kept: float = Field(0.5, gt=0, description="share of its opening below which the value loss has fallen")
        scale: float = Field(0.2, gt=0, lt=1, description="share of the mean return below which the mean value warns")

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._explained = Means()
        self._last = 0.0
        self._turn = 0
        self._fitted, self._lost = False, Streak(_LOST_ROWS)
        self._negative, self._useless = Streak(self.settings.rows), Streak(3 * self.settings.rows)
        self._surge, self._loss, self._opening = Surge(short=3, lasting=5, sigma=0.3), Recent(5), Opening(10)
        self._reward, self._progress = Level(), Progress()
        self._value, self._return, self._spread = Means(), Means(), Means()
        self._small, self._grown = Streak(2 * self.settings.rows // _STRIDE), Streak(20)

    def check(self, obs: Observation) -> Finding | None:
        """Judge whichever of the three came."""
        signals = obs.signals
        reward = signals.get("reward_mean")
        self._reward.push(reward)
        self._progress.follow(obs)
        loss = signals.get("value_loss")
        self._turn = turn = (self._turn + 1) % _STRIDE
        third = turn == 0
        now = self._push_loss(loss, third) if loss is not None else None
        x = signals.get("explained_variance")
        if x is None and "values" in obs.samples:
            x = _explained_variance(obs)
        found = self._unexplained(x) if x is not None else None
        if loss is not None:
            found = self._blown_up(now, found) or found or self._growth(loss)
        if third and found is None and "return_mean" in signals and "value_mean" in signals:
            found = self._out_of_scale(bounded(signals["value_mean"]), bounded(signals["return_mean"]))
        return found

    def blind(self) -> tuple[str, str]:
        """Only half of a pair came: the values without the returns."""
        pair = {"values": "returns", "value_mean": "return_mean"}.get(self._signal)
        if pair is None or self._seen < 5 or self._explained.rows or self._value.rows or len(self._loss.values):
            return "", ""
        return f"{self._signal} came without {pair}", f"log explained_variance, or {pair}"

    def _push_loss(self, loss: float, third: bool) -> Reading | None:
        x = positive(loss)
        self._loss.push(x)
        if x > 0.0:
            self._opening.push(x)
        level = self._loss.median_of(3) if third else None
        return None if level is None else self._surge.push(level)

    def _unexplained(self, x: float) -> Finding | None:
        means = self._explained
        self._last = max(-1.0, min(1.0, x))
        means.push(self._last)
        self._fitted = self._fitted or (means.rows >= 2 * _LOST_ROWS and means.slow > _FITTED)
        self._lost.push(self._fitted and self._last < _UNFITTED)
        learning = means.fast > means.slow + _IMPROVES
        negative = self._negative.push(means.fast < self.settings.explained and not learning)
        negative = negative and means.slow < self.settings.explained
        useless = self._useless.push(max(means.fast, means.slow) < _NOTHING and not learning) and self._flat()
        if not (negative or useless) or self._fits() or self._progress.rising_lately():
            return None
        text = "is worse than predicting the mean" if negative else "explains nothing, and the reward has not risen"
        rows = (self._negative if negative else self._useless).rows
        return warning(
            f"The critic {text}: explained variance {means.fast:.2g} for {rows} steps",
            explained_variance=x, mean_of_10=means.fast, mean_of_33=means.slow, value_loss=self._loss.median_of(5),
            value_loss_opening=self._opening.level if len(self._opening) else None,
        )

    def _fits(self) -> bool:
        """The value loss has fallen, or where none is logged the reward has risen: then it is the returns' variance."""
        loss = self._loss.median_of(5)
        if loss is not None:
            return loss <= float(self.settings.loss_kept) * self._opening.level
        return self._reward.rows > 0 and not self._flat()

    def _flat(self) -> bool:
        """The reward, if any is logged, is not a tenth better than at the start."""
        reward = self._reward
        return reward.rows > 0 and reward.now <= reward.opening + 0.1 * abs(reward.opening)

    def _blown_up(self, now: Reading | None, unexplained: Finding | None) -> Finding | None:
        if now is None or not now.unseen or now.lasting_sigmas < 6.0 or now.lasting_times < self.settings.loss_times:
            return None
        lost = self._lost.rows >= self._lost.limit and not self._progress.rising_now()
        if not lost and (self._last > _EXPLAINS or self._progress.rising_lately()):
            return None
        text = f"Value loss = {now.value:.3g}, {now.lasting_times:.3g}x its baseline and twice what it has ever been"
        evidence = {
            "value_loss": now.value, "median_of_15": now.lasting, "baseline": now.center, "sigma": now.lasting_sigmas,
        }  # fmt: skip
        if lost:
            evidence["explained_variance"] = now_explained = self._explained.fast
            text += f"; the critic has lost its fit: explained variance {now_explained:.2g} for {_LOST_ROWS} steps"
            return critical(f"{text}, and the reward does not rise", **evidence)
        if unexplained is None:
            return warning(text, **evidence)
        return critical(f"{text}; {unexplained.message[0].lower()}{unexplained.message[1:]}", **evidence)

    def _growth(self, loss: float) -> Finding | None:
        """Growth that the baseline followed, and that neither the critic's fit nor the reward excuses."""
        opening = self._opening.level
        high = len(self._opening) == self._opening.size and loss > self.settings.loss_times * opening
        if not self._grown.push(high) or self._explained.fast > _EXPLAINS or not self._flat():
            return None
        return warning(
            f"Value loss = {loss:.3g}, {loss / opening:.3g}x that of the first steps, for "
            f"{self._grown.limit} steps, and the reward has not risen",
            value_loss=loss, opening=opening, reward=self._reward.now, reward_opening=self._reward.opening,
        )

    def _out_of_scale(self, value: float, target: float) -> Finding | None:
        values, returns = self._value, self._return
        values.push(value)
        returns.push(target)
        self._spread.push(abs(target))
        steady = abs(returns.fast) > 0.5 * self._spread.fast
        small = abs(values.fast) < self.settings.scale * abs(returns.fast)
        if not self._small.push(steady and small and abs(values.fast) <= 1.1 * abs(values.slow)):
            return None
        return warning(
            f"Values are far below the returns: mean value {values.fast:.3g}, mean return {returns.fast:.3g} "
            f"for {self._small.limit * _STRIDE} steps",
            value_mean=values.fast, return_mean=returns.fast, ratio=values.fast / returns.fast,
        )


def _explained_variance(obs: Observation) -> float | None:
    """From the arrays, where each value has its return; None where the returns do not vary."""
    values, returns = obs.finite_samples("values"), obs.finite_samples("returns")
    if values is None or returns is None or values.size != returns.size or values.size < 2:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        total, left = float(returns.var()), float((returns - values).var())
    return 1.0 - left / total if 0.0 < total < np.inf and left < np.inf else None
