"""The policy runs away from the reference, or from the policy that made its rollouts."""

from __future__ import annotations

from collections.abc import Container, Mapping
from math import exp
from typing import Any, ClassVar

from pydantic import Field

from rlwatch.alert import Severity
from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical, warning
from rlwatch.observation import Observation
from rlwatch.streaming import positive
from rlwatch.streaming.baseline import HELD
from rlwatch.streaming.gate import Gate, Passage
from rlwatch.streaming.opening import Opening
from rlwatch.streaming.progress import Progress
from rlwatch.streaming.streak import Streak
from rlwatch.streaming.surge import Reading, Surge

_FLOORS = {"kl": 1.0, "approx_kl": 0.3, "rollout_kl": 0.3, "kl_sequence": 30.0}
"""The KLs live on different scales: the levels below are for `kl` per token, the others take these multiples of them
(a sum over a response has its length in it)."""


_EXTREME_ROWS = 5

_CREEP_ROWS = 20
"""Rows above the creep level, net of the rows below it, that warn: the mean of 20 healthy rows stays far below it."""


class KlExplosion(Detector):
    """KL far above its own level and above what healthy runs reach.

    Sigma alone cannot tell: KL to the reference starts at 0, so that ratios to its early values mean nothing (245x was
    measured in a healthy run). So both must hold: sigmas above a robust log baseline, and an absolute level. Measured
    on healthy TRL runs, `kl` per token: single rows up to .92, the mean of 20 rows never above .194; real failures
    reach 1-3. SB3's `approx_kl` stays below .031, failures pass .2. A slow rise, which a rolling baseline follows, is
    judged by the level of 20 rows alone.
    """

    id: ClassVar[str] = "kl_explosion"
    link: ClassVar[Link] = Link.POLICY
    needs: ClassVar[tuple[str, ...]] = ("kl", "approx_kl", "rollout_kl", "kl_sequence")
    warmup: ClassVar[int] = 8
    shares: ClassVar[tuple[str, ...]] = ("_progress",)
    state: ClassVar[tuple[str, ...]] = ("_source", "_surge", "_opening", "_creeping", "_rows_extreme", "_progress")

    class Settings(DetectorSettings):
        """Levels are for `kl` per token in nats; `approx_kl` and `rollout_kl` take 0.3, `kl_sequence` 30 times them."""

        warning_sigma: float = Field(3.0, gt=0, description="sigmas above the baseline for a warning")
        critical_sigma: float = Field(4.5, gt=0, description="sigmas above the baseline for a critical")
        warning_level: float = Field(0.25, ge=0, description="median KL of 5 rows below which nothing is said")
        critical_level: float = Field(0.6, ge=0, description="median KL of 7 rows below which nothing is critical")
        extreme_level: float = Field(5.0, ge=0, description="KL of 5 rows in a row that is always critical")
        creep_level: float = Field(0.4, ge=0, description="KL of 20 rows that warns however slowly it came")

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._source = ""
        self._gate = Gate(HELD - 1)  # of `kl`: rows of another source do not pass it
        self._reset()
        self._progress = Progress()

    def _reset(self) -> None:
        self._gate.close()
        self._surge = Surge(sigma=0.3, gate=self._gate if self._source == "kl" else None)
        if self._source == "kl":
            self._surge.hold_below(0.0)  # from there on others than the surge may have something to say
        self._opening = Opening(5)
        self._creeping = Streak(_CREEP_ROWS)
        self._rows_extreme = 0

    def gate(self, signals: Container[str]) -> Passage | None:
        """Ordinary values may wait."""
        return Passage("kl", self._gate) if "kl" in signals else None

    def catch_up(self) -> None:
        """Take in the rows that wait."""
        self._surge.catch_up()

    def check(self, obs: Observation) -> Finding | None:
        """Judge the best KL there is; a better one that comes later starts a new baseline."""
        if self._progress.followed is not obs:
            self._progress.follow(obs)
        signals = obs.signals
        if self._source == "kl" and self._surge.quiet(signals.get("kl", 0.0)):
            return None
        for source in self.needs:
            if source in signals:
                break
        else:
            return None
        if source != self._source:
            if self._source and self.needs.index(source) > self.needs.index(self._source):
                return None
            self._source = source
            self._reset()
        x, scale = positive(abs(signals[source])), _FLOORS[source]
        self._opening.push(x)
        reading = self._surge.push(x)
        creeping = self._creeping.push(x > self.settings.creep_level * scale)
        if x > self.settings.extreme_level * scale:
            self._rows_extreme += 1
        else:
            self._rows_extreme = 0
        if source == "kl":
            calm = self._opening.full and not self._creeping.rows and not self._rows_extreme
            self._surge.hold_below(self.settings.creep_level * scale if calm else 0.0)
        finding = self._sudden(reading) if reading else None
        if finding is None or finding.severity is Severity.WARNING:
            return self._extreme(x) or finding or (self._slow(x) if creeping else None)
        return finding

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._source = str(state["_source"])
        self._reset()
        super().load_state_dict(state)

    def _sudden(self, now: Reading) -> Finding | None:
        if not now.new:
            return None
        limits, scale = self.settings, _FLOORS[self._source]
        text = f"{_NAMES[self._source]} = {now.value:.3g}, {now.sigmas:.1f} sigma above rolling mean"
        evidence = {
            "signal": self._source,
            "value": now.value,
            "level": now.level,
            "lasting_level": now.lasting,
            "baseline": now.center,
            "sigma": now.sigmas,
        }
        sure = (now.lasting_sigmas > limits.critical_sigma and now.lasting_times > 3.0) or now.lasting_times > 10.0
        lasting = sure and now.lasting > limits.critical_level * scale
        extreme = now.sigmas > 2 * limits.critical_sigma and now.level > 3 * limits.critical_level * scale
        if now.unseen and (lasting or extreme):
            return critical(text, **evidence)
        if now.sigmas > limits.warning_sigma and now.level > limits.warning_level * scale:
            return warning(text, **evidence)
        return None

    def _extreme(self, x: float) -> Finding | None:
        """So far away that no baseline and no reward can speak for it."""
        if self._rows_extreme < _EXTREME_ROWS or x < 10.0 * self._opening.level:
            return None
        level = self.settings.extreme_level * _FLOORS[self._source]
        return critical(
            f"{_NAMES[self._source]} = {x:.3g}, above {level:.3g} for {self._rows_extreme} steps: "
            "nothing is left of the policy that it is measured against",
            signal=self._source, value=x, level=level, rows=self._rows_extreme, opening=self._opening.level,
        )

    def _slow(self, x: float) -> Finding | None:
        """A rise so slow that the baseline followed it: judged by its level, and by whether the reward pays for it."""
        limits, baseline = self.settings, self._surge.baseline
        if x < 3.0 * self._opening.level:
            return None
        level = limits.creep_level * _FLOORS[self._source]
        text = f"{_NAMES[self._source]} = {x:.3g}, risen slowly and above {level:.3g} for {_CREEP_ROWS} steps"
        growth = baseline.center / exp(baseline.quantile(0.1))
        evidence = {"signal": self._source, "value": x, "median_of_100": baseline.center, "growth": growth}
        if baseline.center > 5 * level and growth > 3.0 and not self._progress.rising_lately():
            return critical(f"{text}; it grew {growth:.1f}x within 100 steps and still grows", **evidence)
        return warning(text, **evidence)


_NAMES = {
    "kl": "KL divergence",
    "approx_kl": "Approximate KL (old to new policy)",
    "rollout_kl": "Rollout KL (trainer against inference engine)",
    "kl_sequence": "KL divergence (sum over a response)",
}
