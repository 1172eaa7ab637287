"""The gradient norm leaves its level and does not come back."""

from __future__ import annotations

from collections.abc import Container, Mapping
from math import sqrt
from typing import Any, ClassVar

from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical, warning
from rlwatch.observation import Observation
from rlwatch.streaming import positive
from rlwatch.streaming.gate import Passage
from rlwatch.streaming.opening import Opening
from rlwatch.streaming.recent import Recent
from rlwatch.streaming.streak import Streak
from rlwatch.streaming.surge import Reading, Surge
from rlwatch.streaming.usual import Usual

_GROWTH_ROWS = 20


class GradientSpike(Detector):
    """The gradient norm before clipping, persistently far above its baseline, or gone.

    Single spikes that fall back are normal: over 56 healthy LLM runs the largest was 6x the median in half of them,
    31x in a tenth, 1,226x at most, and 53 of 56 were below 3x two rows later. So neither one row nor two speak: the
    median of 5 rows warns, that of 7 may be critical. Growth so slow that the baseline follows it is compared with
    the run's opening, and only warns: where returns grow, the gradient of the value loss grows with them in health.

    For classical control (`value_loss_explains`) that holds for a sudden rise, too: the gradient of a value loss grows
    with its root, so what is left of the rise when it is divided by that decides. A gradient that is 60 times what it
    was beside a value loss that is what it was comes from a weight, a rate or a bug, not from better returns.
    """

    id: ClassVar[str] = "gradient_spike"
    link: ClassVar[Link] = Link.NUMERICS
    needs: ClassVar[tuple[str, ...]] = ("grad_norm",)
    warmup: ClassVar[int] = 8
    lag: ClassVar[int] = 10
    state: ClassVar[tuple[str, ...]] = ("_surge", "_opening", "_growing", "_value_loss", "_value_losses")

    class Settings(DetectorSettings):
        """Both a sigma and a ratio must be passed."""

        warning_sigma: float = Field(6.0, gt=0, description="sigmas above the baseline, median of 5 rows")
        warning_times: float = Field(6.0, gt=1, description="times the baseline, median of 5 rows")
        critical_sigma: float = Field(8.0, gt=0, description="sigmas above the baseline, median of 7 rows")
        critical_times: float = Field(20.0, gt=1, description="times the baseline, median of 7 rows")
        critical_growth: float = Field(200.0, gt=1, description="times the baseline that are critical at any sigma")
        growth_times: float = Field(50.0, gt=1, description="times the opening that warn, however slowly it came")
        gone_rows: int = Field(60, ge=1, description="rows in a row without any gradient that warn")
        value_loss_explains: bool = Field(
            False, description="a rise that the value loss explains, or no value loss can deny, is not critical"
        )

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._surge = Surge(sigma=0.3)
        self._opening = Opening(10)
        self._growing = Streak(_GROWTH_ROWS)
        self._explains = bool(self.settings.value_loss_explains)
        self._value_loss, self._value_losses = Usual(span=100, floor=0.3), Recent(5)
        self._surge.hold_below(0.0)  # until the opening is known

    def gate(self, signals: Container[str]) -> Passage | None:
        """Ordinary norms may wait, where none is far above the opening nor was lately; not beside a value loss."""
        return Passage("grad_norm", self._surge.gate) if "grad_norm" in signals and not self._explains else None

    def catch_up(self) -> None:
        """Take in the rows that wait."""
        self._surge.catch_up()

    def check(self, obs: Observation) -> Finding | None:
        """Judge the norm; a non-finite one is `loss_nonfinite`'s."""
        x = obs.signals.get("grad_norm")
        if x is None:
            return None
        if self._explains and "value_loss" in obs.signals:
            loss = positive(obs.signals["value_loss"])
            self._value_loss.push(loss)
            self._value_losses.push(loss)
        if self._surge.quiet(x):
            return None
        x = positive(x)
        limits = self.settings
        if x > 0.0 and not self._opening.full:
            self._opening.push(x)
        now = self._surge.push(x)
        gone = self._surge.gone
        if gone >= limits.gone_rows:
            before = self._surge.gone_from
            return warning(
                f"Gradient norm has been {x:.3g} for {gone} steps (it was {before:.3g}): nothing is learnt",
                value=x, rows=gone, level_before=before,
            )
        opening = self._opening
        high = opening.full and x > limits.growth_times * opening.level
        growth = self._growth(x, high) if high or self._growing.rows else None
        usual = opening.full and not self._growing.rows
        self._surge.hold_below(limits.growth_times * opening.level if usual else 0.0)
        spike = self._spike(now) if now is not None and now.new else None
        return spike or growth

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._surge.hold_below(0.0)
        super().load_state_dict(state)

    def _spike(self, now: Reading) -> Finding | None:
        limits = self.settings
        text = f"Gradient norm = {now.value:.3g}, {now.sigmas:.1f} sigma above baseline"
        evidence = {
            "value": now.value,
            "median_of_5": now.level,
            "median_of_7": now.lasting,
            "baseline": now.center,
            "sigma": now.sigmas,
        }
        lasting = now.lasting_sigmas > limits.critical_sigma and now.lasting_times > limits.critical_times
        if now.unseen and (lasting or now.lasting_times > limits.critical_growth) and self._unexplained(now, evidence):
            return critical(f"{text} ({now.lasting_times:.3g}x) for 4 of the last 7 steps", **evidence)
        spike = now.sigmas > limits.warning_sigma and now.times > limits.warning_times
        if spike or (now.unseen and now.times > limits.critical_times):
            return warning(f"{text} ({now.times:.3g}x) for 3 of the last 5 steps", **evidence)
        return None

    def _unexplained(self, now: Reading, evidence: dict[str, Any]) -> bool:
        """Whether the rise is still critical when the growth of the value loss is taken off it."""
        if not self._explains:
            return True
        loss = self._value_losses.median_of(5)
        if loss is None:
            return False
        grown = evidence["value_loss_times"] = max(1.0, loss / self._value_loss.level)
        return bool(now.lasting_times > self.settings.critical_times * sqrt(grown))

    def _growth(self, x: float, high: bool) -> Finding | None:
        """Growth that the baseline followed: the rows far above the opening, net of the rows that are not."""
        opening = self._opening.level
        if not self._growing.push(high):
            return None
        return warning(
            f"Gradient norm = {x:.3g}, {x / opening:.3g}x that of the first steps, for {_GROWTH_ROWS} steps",
            value=x, opening=opening, times=x / opening,
        )
