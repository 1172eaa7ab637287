"""The mean reward moves one way for long."""

from __future__ import annotations

from collections.abc import Container, Mapping
from math import inf
from typing import Any, ClassVar

from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, warning
from rlwatch.observation import Observation
from rlwatch.streaming.blocks import Blocks, Trend
from rlwatch.streaming.gate import Gate, Passage
from rlwatch.streaming.level import Level

_HELD = 8
"""Rows that may wait: nothing is said before a block of them is complete."""


class RewardDrift(Detector):
    """Reward falling, or rising suspiciously, block after block without a turn. A warning only.

    Means of blocks are compared, so that noise does not break the trend; blocks lengthen with the run, so that a slow
    drift is seen too. Downwards the drift speaks for itself. Upwards it is what training is for, and it takes a second
    signal: longer responses (healthy runs stay below 1.28x their start, measured), a KL above what healthy runs reach,
    or a gold score that does not follow; one that does clears it. A falling entropy is no such signal: with a rising
    reward it is convergence (measured: 2.6 to .08 nats while a sorting task went from .10 to .98).
    """

    id: ClassVar[str] = "reward_drift"
    link: ClassVar[Link] = Link.REWARD
    needs: ClassVar[tuple[str, ...]] = ("reward_mean", "rewards")
    warmup: ClassVar[int] = 24
    state: ClassVar[tuple[str, ...]] = ("_blocks", "_length", "_kl", "_entropy", "_gold", "_judged")

    class Settings(DetectorSettings):
        """What makes a trend, and what makes an upward one suspicious."""

        cooldown: int = Field(200, ge=0, description="rows after an alert in which it is not repeated")
        rearm: int = Field(100, ge=1, description="quiet rows after which the drift counts as over")
        blocks: int = Field(6, ge=3, description="blocks in a row that must move one way")
        noise: float = Field(5.0, gt=0, description="standard errors of a block that the change must exceed")
        share: float = Field(0.25, gt=0, description="share of the reward's own range that the change must exceed")
        length_times: float = Field(1.5, gt=1, description="growth of the responses that makes a rise suspicious")
        kl_level: float = Field(0.25, gt=0, description="KL to the reference that makes a rise suspicious")
        gold_share: float = Field(0.1, ge=0, description="share of the reward's gain that gold must make, likewise")

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._blocks = Blocks()
        self._length, self._kl, self._entropy, self._gold = Level(), Level(), Level(), Level()
        self._judged = 0
        self._gate = Gate(0)  # open for any reward, as long as it completes no block
        self._gate.low, self._gate.high = -inf, inf

    def gate(self, signals: Container[str]) -> Passage | None:
        """All rows may wait but those that complete a block."""
        return Passage("reward_mean", self._gate, whole=True) if "reward_mean" in signals else None

    def check(self, obs: Observation) -> Finding | None:
        """Judge the trend when a block is complete."""
        held = self._gate.rows
        held.append(obs.signals)
        if (len(held) < self._blocks.left and len(held) < _HELD) or not self._take_in():
            return None
        trend = self._blocks.trend(self.settings.blocks)
        if trend is None or abs(trend.change) < self.settings.noise * trend.error:
            return None
        return self._down(trend) if trend.change < 0 else self._up(trend)

    def _take_in(self) -> bool:
        """Take in the rows that wait; whether the last of them completes a block."""
        complete, gate = False, self._gate
        held, gate.rows = gate.rows, []
        for signals in held:
            get = signals.get
            self._length.push(get("response_length_mean"))
            self._kl.push(get("kl"))
            if "action_std" not in signals:  # a differential entropy passes zero
                self._entropy.push(get("entropy"))
            self._gold.push(get("gold_score"))
            complete = (x := get("reward_mean")) is not None and self._blocks.push(x)
        self._judged += len(held)
        gate.room = min(self._blocks.left, _HELD) - 1
        return complete

    def catch_up(self) -> None:
        """Take in the rows that wait: fewer than a block needs."""
        self._take_in()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._gate.rows, self._gate.room = [], 0
        super().load_state_dict(state)

    def _down(self, trend: Trend) -> Finding | None:
        if -trend.change < self.settings.share * max(abs(trend.first), self._blocks.range):
            return None
        return warning(
            f"Reward mean has been drifting down monotonically for {trend.rows} steps, "
            f"from {trend.first:.3g} to {trend.last:.3g}",
            **self._evidence(trend),
        )

    def _up(self, trend: Trend) -> Finding | None:
        reasons = self._suspicions(trend)
        if not reasons:
            return None
        return warning(
            f"Reward mean has been drifting up monotonically for {trend.rows} steps, "
            f"from {trend.first:.3g} to {trend.last:.3g}, while {' and '.join(reasons)}",
            **self._evidence(trend),
        )

    def _suspicions(self, trend: Trend) -> list[str]:
        limits = self.settings
        reasons: list[str] = []
        length, gold = self._length, self._gold
        follows = gold.rows > 5 and gold.now - gold.opening >= limits.gold_share * trend.change
        if follows:
            return reasons  # what the reward stands for rises with it
        if length.times is not None and length.times > limits.length_times:
            reasons.append(f"responses grew {length.times:.1f}x ({length.opening:.3g} to {length.now:.3g} tokens)")
        if self._kl.rows > 5 and self._kl.now > limits.kl_level:
            reasons.append(f"KL is {self._kl.now:.2g}")
        often = gold.rows > 5 and gold.rows > 0.8 * self._judged  # of a sparse one, opening and level are other rows
        if often and not gold.opening == 0.0 < gold.now:  # an exact match that is only just being found is no lag
            reasons.append(f"the gold score went from {gold.opening:.3g} to {gold.now:.3g}")
        return reasons

    def _evidence(self, trend: Trend) -> dict[str, Any]:
        evidence: dict[str, Any] = {
            "rows": trend.rows,
            "from": trend.first,
            "to": trend.last,
            "standard_error": trend.error,
            "block_rows": self._blocks.length,
        }
        seconds = {
            "response_length": self._length, "kl": self._kl, "entropy": self._entropy, "gold_score": self._gold,
        }
        for name, level in seconds.items():
            if level.rows:
                evidence[name] = [level.opening, level.now]
        return evidence
