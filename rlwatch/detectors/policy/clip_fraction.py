"""PPO's clip holds back a large share of the samples: the update wants to go further than it may."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, ClassVar

from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical, warning
from rlwatch.observation import Observation
from rlwatch.streaming.baseline import HELD
from rlwatch.streaming.gate import BELOW_ZERO, Gate, Passage
from rlwatch.streaming.means import Means
from rlwatch.streaming.progress import Progress
from rlwatch.streaming.streak import Streak

_YOUNG = 24
"""Rows that a reward needs to show that it rises."""


class ClipFraction(Detector):
    """Mean clip fraction of the last rows above the guardrail.

    Field reports call 1-10 % usual and more than 20-30 % bad; the guardrail of the common presets is .35-.4. Measured:
    healthy language-model runs stay below .03, healthy PPO of Stable-Baselines3 at .02-.16 (the mean of ten rows at
    most at .21), while runs whose KL left for good sit at .5-.84. With one update a batch it is 0 and says nothing.

    Where a loop logs each of several passes over the same samples, the fraction is 0 on the first and rises to the
    last: a saw-tooth. So the mean is judged, which is what loops that log once a batch report anyway, and never a
    single row.

    A warning, since a clip that holds may hold for long while the reward still rises. It takes the old-to-new KL, that
    is an update which goes far in spite of the clip, and a reward that does not pay for it although it had 24 rows to
    show so, to make it critical.
    """

    id: ClassVar[str] = "clip_fraction"
    link: ClassVar[Link] = Link.POLICY
    core: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("clip_fraction",)
    warmup: ClassVar[int] = 6
    shares: ClassVar[tuple[str, ...]] = ("_progress",)
    state: ClassVar[tuple[str, ...]] = ("_clipped", "_far", "_progress")

    class Settings(DetectorSettings):
        """Levels are means over about the last 10 rows."""

        rearm: int = Field(20, ge=1, description="quiet rows after which the trouble counts as over")
        warning_level: float = Field(0.4, gt=0, le=1, description="share of clipped samples that warns")
        critical_level: float = Field(0.6, gt=0, le=1, description="share that may be critical, see critical_kl")
        critical_kl: float = Field(
            0.1, gt=0, description="approx_kl of 10 rows that makes it critical: 3x the largest usual target (.03)"
        )

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._clipped = Means()
        self._far = Streak(10)
        self._progress = Progress()
        self._gate = Gate(HELD - 1)

    def gate(self, signals: Container[str]) -> Passage | None:
        """Shares below the limit may wait, where no KL comes with them."""
        alone = "clip_fraction" in signals and "approx_kl" not in signals
        return Passage("clip_fraction", self._gate) if alone else None

    def catch_up(self) -> None:
        """Take in the rows that wait."""
        held, self._gate.held = self._gate.held, []
        for x in held:
            self._clipped.push(x)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._gate.close()
        super().load_state_dict(state)

    def check(self, obs: Observation) -> Finding | None:
        """Judge the mean of the last rows; what is not a share (a count, a percentage) is left out."""
        signals = obs.signals
        if self._progress.followed is not obs:
            self._progress.follow(obs)
        self.catch_up()
        x = signals["clip_fraction"]
        if not 0.0 <= x <= 1.0:
            return None
        limits, clipped = self.settings, self._clipped
        clipped.push(x)
        limit = limits.warning_level * (1.0 - 1e-9)  # what rounding of a mean of values below it may cost
        self._gate.low, self._gate.high = BELOW_ZERO, limit if clipped.fast < limit else 0.0
        kl = signals.get("approx_kl")
        far = kl is not None and self._far.push(abs(kl) > limits.critical_kl)
        if clipped.fast < limits.warning_level or clipped.rows < self.warmup:
            return None
        text = f"PPO is braking: {clipped.fast:.0%} of samples clipped (mean of the last 10 rows; 1-10 % is usual)"
        evidence: dict[str, Any] = {"clip_fraction": x, "mean_of_10": clipped.fast, "mean_of_33": clipped.slow}
        if kl is not None:
            evidence["approx_kl"] = kl
        braking = far and clipped.fast >= limits.critical_level and clipped.rows >= _YOUNG
        if not braking or self._progress.rising_lately():
            return warning(text, **evidence)
        return critical(f"{text}, and the policy still moves {kl:.3g} nats an update", **evidence)
