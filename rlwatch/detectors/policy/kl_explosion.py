"""The policy runs away from the reference, or from the policy that made its rollouts."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical, warning
from rlwatch.observation import Observation
from rlwatch.streaming.progress import Progress
from rlwatch.streaming.recent import Recent
from rlwatch.streaming.surge import Reading, Surge

_FLOORS = {"kl": 1.0, "approx_kl": 0.3, "rollout_kl": 0.3, "kl_sequence": 30.0}
"""The KLs live on different scales: the levels below are for `kl` per token, the others take these multiples of them
(a sum over a response has its length in it)."""


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
    state: ClassVar[tuple[str, ...]] = ("_source", "_surge", "_creep", "_progress")

    class Settings(DetectorSettings):
        """Levels are for `kl` per token in nats; `approx_kl` and `rollout_kl` take 0.3, `kl_sequence` 30 times them."""

        warning_sigma: float = Field(3.0, gt=0, description="sigmas above the baseline for a warning")
        critical_sigma: float = Field(4.5, gt=0, description="sigmas above the baseline for a critical")
        warning_level: float = Field(0.25, ge=0, description="median KL of 3 rows below which nothing is said")
        critical_level: float = Field(0.6, ge=0, description="median KL of 5 rows below which nothing is critical")
        creep_level: float = Field(0.4, ge=0, description="median KL of 20 rows that warns however slowly it came")

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._source = ""
        self._reset()
        self._progress = Progress()

    def _reset(self) -> None:
        self._surge = Surge(sigma=0.3)
        self._creep = Recent(21)

    def check(self, obs: Observation) -> Finding | None:
        """Judge the best KL there is; a better one that comes later starts a new baseline."""
        self._progress.push(obs.signals.get("reward_mean"))
        for source in self.needs:
            if source in obs.signals:
                break
        else:
            return None
        if source != self._source:
            if self._source and self.needs.index(source) > self.needs.index(self._source):
                return None
            self._source = source
            self._reset()
        x = abs(obs.signals[source])
        slow = self._creep.push(x)
        reading = self._surge.push(x)
        if reading is None:
            return None
        return self._sudden(reading) or (self._slow(reading, slow) if slow is not None else None)

    def _sudden(self, now: Reading) -> Finding | None:
        if not now.new:
            return None
        limits, scale = self.settings, _FLOORS[self._source]
        text = f"{_NAMES[self._source]} = {now.value:.3g}, {now.sigmas:.1f} sigma above rolling mean"
        evidence = {
            "signal": self._source,
            "value": now.value,
            "median_of_3": now.level,
            "median_of_5": now.lasting,
            "baseline": now.center,
            "sigma": now.sigmas,
        }
        lasting = now.lasting_sigmas > limits.critical_sigma and now.lasting > limits.critical_level * scale
        extreme = now.sigmas > 2 * limits.critical_sigma and now.level > 3 * limits.critical_level * scale
        if (lasting and now.lasting_times > 3.0) or extreme:
            return critical(text, **evidence)
        if now.sigmas > limits.warning_sigma and now.level > limits.warning_level * scale:
            return warning(text, **evidence)
        return None

    def _slow(self, now: Reading, slow: float) -> Finding | None:
        """A rise so slow that the baseline followed it: judged by its level, and by whether the reward pays for it."""
        limits, scale = self.settings, _FLOORS[self._source]
        if slow <= limits.creep_level * scale or now.level < 0.5 * slow:
            return None
        text = f"{_NAMES[self._source]} = {slow:.3g} over 20 rows, risen slowly"
        evidence = {"signal": self._source, "median_of_21": slow, "baseline": now.center, "value": now.value}
        growing = slow > 5 * limits.creep_level * scale and now.lasting_times > 2.0
        if growing and not self._progress.rising_lately():
            return critical(f"{text} and still growing, {now.lasting_times:.1f}x its level 50 rows ago", **evidence)
        return warning(text, **evidence)


_NAMES = {
    "kl": "KL divergence",
    "approx_kl": "Approximate KL (old to new policy)",
    "rollout_kl": "Rollout KL (trainer against inference engine)",
    "kl_sequence": "KL divergence (sum over a response)",
}
