"""Policy and critic no longer move in step."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical, warning
from rlwatch.observation import Observation
from rlwatch.streaming import positive
from rlwatch.streaming.opening import Opening
from rlwatch.streaming.streak import Streak
from rlwatch.streaming.surge import Reading, Surge

_OPENING = 20
"""Rows that show the healthy ratio: by then a warm-up of the rate, and Adam's first steps, are over."""


_STILL, _STILL_TIMES = 1e-6, 3
"""Share of the policy's step below which a critic stands still, and measurements that show it."""


class UpdateImbalance(Detector):
    """rho = |policy step| / |value step|, the L2 norms of one update's change, far from its own healthy level.

    Both ways: a policy that outruns its critic is steered by advantages of a policy that is gone; a critic that moves
    far more than the policy is chasing returns that it cannot fit. The level itself means nothing (it is the square
    root of the numbers of weights times the rates), so rho is compared with its rolling baseline and, for a drift that
    the baseline follows, with the run's first rows. Where both learning rates are logged rho is taken per rate, so that
    two schedules do not pass for an imbalance. The field guides stop at a rho far beyond its baseline for thousands of
    steps: long is critical, only upwards, and only where both rates are known, since the warm-up of one of them looks
    the same in a healthy run.

    A critic that moved and then does not move any more, while the policy goes on, is another matter: whatever its
    explained variance is now, it predicts the returns of a policy that is gone (no parameters left in its optimizer, a
    rate that fell to nothing). For long that is critical.

    Rows without both norms are passed over: adapters take them every few steps.
    """

    id: ClassVar[str] = "update_imbalance"
    link: ClassVar[Link] = Link.CRITIC
    core: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("policy_step_norm", "value_step_norm")
    warmup: ClassVar[int] = _OPENING
    state: ClassVar[tuple[str, ...]] = ("_over", "_under", "_opening", "_drifted", "_long", "_moved", "_still")

    class Settings(DetectorSettings):
        """Rows are those that carry both norms."""

        rearm: int = Field(20, ge=1, description="quiet rows after which the trouble counts as over")
        times: float = Field(5.0, gt=1, description="times its baseline, median of 9 rows, that warn (up or down)")
        sigma: float = Field(6.0, gt=0, description="sigmas from the baseline (log scale) that must be passed as well")
        drift_times: float = Field(10.0, gt=1, description="times its first 20 rows, for 60 rows, that warn")
        still_rows: int = Field(20, ge=1, description="rows of a critic that stands still that warn; critical at twice")
        critical_rows: int = Field(500, ge=1, description="rows beyond drift_times, upwards, that are critical")

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._over = Surge(short=9, lasting=15, sigma=0.2)
        self._under = Surge(short=9, lasting=15, sigma=0.2)
        self._opening = Opening(_OPENING)
        self._drifted = Streak(60)
        self._long = Streak(self.settings.critical_rows)
        self._moved = self._still = 0

    def check(self, obs: Observation) -> Finding | None:
        """Judge the ratio; a step of exactly zero (a critic trained alone, a rate of zero) is no ratio."""
        signals = obs.signals
        policy = positive(signals.get("policy_step_norm", 0.0))
        value = positive(signals.get("value_step_norm", 0.0))
        if policy and "value_step_norm" in signals and value < _STILL * policy:
            return self._stood_still(obs.row, policy, value)
        if not policy or not value:
            return None
        self._moved, self._still = obs.row + 1, 0
        rho = policy / value
        rates = positive(signals.get("learning_rate", 0.0)), positive(signals.get("critic_learning_rate", 0.0))
        if rates[0] and rates[1]:
            rho *= rates[1] / rates[0]
        rho = positive(rho)
        if not rho:
            return None
        self._opening.push(rho)
        over, under = self._over.push(rho), self._under.push(1.0 / rho)
        steps = {"policy_step": policy, "value_step": value, "rho": rho}
        drift = self._drift(rho, steps, rates_known=bool(rates[0] and rates[1]))
        return drift or self._sudden(over, "above", steps) or self._sudden(under, "below", steps)

    def blind(self) -> tuple[str, str]:
        """One of the two norms never came."""
        if self._seen < 5 or len(self._opening):
            return "", ""
        other = "value_step_norm" if self._signal == "policy_step_norm" else "policy_step_norm"
        return f"{self._signal} came without {other} above 0", f"log {other} beside it"

    def _stood_still(self, row: int, policy: float, value: float) -> Finding | None:
        """Only where the critic has moved: one that is frozen on purpose was so from the start."""
        self._still += 1
        rows = row + 1 - self._moved
        if not self._moved or self._still < _STILL_TIMES or rows < self.settings.still_rows:
            return None
        text = f"The critic has not moved for {rows} rows ({self._still} measurements) while the policy went on"
        steps = {"policy_step": policy, "value_step": value, "rows_since_onset": rows}
        return critical(text, **steps) if rows >= 2 * self.settings.still_rows else warning(text, **steps)

    def _sudden(self, now: Reading | None, side: str, steps: dict[str, Any]) -> Finding | None:
        limits = self.settings
        if now is None or not now.unseen or now.times < limits.times or now.sigmas < limits.sigma:
            return None
        return warning(
            f"Policy:value step-norm ratio = {steps['rho']:.3g}, {now.times:.3g}x {side} its healthy level",
            times=now.times, sigma=now.sigmas, **steps,
        )

    def _drift(self, rho: float, steps: dict[str, Any], *, rates_known: bool) -> Finding | None:
        opening, limit = self._opening.level, self.settings.drift_times
        if len(self._opening) < _OPENING:
            return None
        high = rho > limit * opening
        lasting = self._long.push(high)
        if not self._drifted.push(high or rho * limit < opening):
            return None
        times = rho / opening if high else opening / rho
        side = "above" if high else "below"
        text = f"Policy:value step-norm ratio = {rho:.3g}, {times:.3g}x {side} that of its start"
        if lasting and rates_known:
            return critical(f"{text}, for {self._long.rows} rows", opening=opening, times=times, **steps)
        return warning(text, opening=opening, times=times, **steps)
