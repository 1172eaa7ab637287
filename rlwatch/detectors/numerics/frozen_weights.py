"""Nothing is being trained: the weights do not move, or no gradient reaches them."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical, warning
from rlwatch.observation import Observation
from rlwatch.streaming import TINY, positive


class FrozenWeights(Detector):
    """Updates that change nothing although there is something to learn and a rate to learn it with.

    A relative change below 1e-8 a step counts as none (SageMaker Debugger's rule for weights that do not update; a
    language model at a rate of 1e-6 moves by about 1e-5). The usual causes are a rate so small that bf16 weights round
    it away, an optimizer made from other parameters, a loss that is masked out or detached.

    What is *not* a fault, and is passed over: a rate of zero (first row of a warm-up, end of a schedule), and GRPO
    groups whose rewards all tie, which give a gradient of exactly zero: up to 25 rows in a row in healthy runs
    (measured). So a zero gradient counts only while something shows that not all of them tie, the more rows the weaker
    the sign: the spread of the advantages and the share of tied groups, or the spread of the rewards over the batch.
    """

    id: ClassVar[str] = "frozen_weights"
    link: ClassVar[Link] = Link.NUMERICS
    core: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("update_norm", "policy_step_norm", "grad_norm")
    state: ClassVar[tuple[str, ...]] = ("_weights", "_still", "_no_gradient", "_untied")

    class Settings(DetectorSettings):
        """Rows are in a row, without those that are passed over."""

        relative_change: float = Field(1e-8, ge=0, description="|update| / |weights| that counts as no change")
        rows: int = Field(20, ge=1, description="rows without a change that warn; 5x while a critic moves")
        critical_rows: int = Field(100, ge=1, description="rows without a change that are critical if gradients arrive")
        gradient_rows: int = Field(40, ge=1, description="rows with a gradient of 0 and untied groups that warn")
        gradient_rows_unsure: int = Field(80, ge=1, description="likewise, knowing only that rewards differ")

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._weights = 0.0
        self._still = 0
        self._no_gradient = 0
        self._untied = 0

    def check(self, obs: Observation) -> Finding | None:
        """Judge the update where its norm is known, and the gradient."""
        signals = obs.signals
        gradient = positive(signals["grad_norm"]) if "grad_norm" in signals else None
        update = signals.get("update_norm", signals.get("policy_step_norm"))
        if gradient is not None and gradient > 0.0:
            self._no_gradient = self._untied = 0
            if update is None:
                return None
        rate = signals.get("learning_rate")
        if rate is not None and rate <= 0.0:
            return None
        if gradient == 0.0:
            return self._zero_gradient(signals)
        return None if update is None else self._no_change(positive(update), gradient, signals)

    def _no_change(self, update: float, gradient: float | None, signals: dict[str, float]) -> Finding | None:
        if "update_norm" in signals and "weight_norm" in signals:
            self._weights = positive(signals["weight_norm"])
        if update > self.settings.relative_change * self._weights:
            self._still = 0
            return None
        if gradient is None and _nothing_to_learn(signals):
            return None
        self._still = still = self._still + 1
        critic_moves = "update_norm" not in signals and signals.get("value_step_norm", 0.0) > 0.0
        if still < self.settings.rows * (5 if critic_moves else 1):
            return None
        what = "policy" if critic_moves else "weights"
        text = f"The {what} did not move for {still} updates: |update| = {update:.3g}"
        evidence = {
            "update_norm": update, "weight_norm": self._weights or None, "rows": still, "grad_norm": gradient,
            "learning_rate": signals.get("learning_rate"),
        }  # fmt: skip
        if gradient is not None and still >= self.settings.critical_rows and not critic_moves:
            return critical(f"{text}, though gradients arrive", **evidence)
        return warning(text, **evidence)

    def _zero_gradient(self, signals: dict[str, float]) -> Finding | None:
        if _nothing_to_learn(signals):
            return None
        untied = any(signals.get(name, 0.0) > TINY for name in ("advantage_std", "group_reward_std"))
        untied = untied or signals.get("frac_reward_zero_std", 1.0) < 1.0
        if not untied and signals.get("reward_std", 0.0) <= TINY:
            return None
        self._no_gradient += 1
        self._untied += untied
        limits = self.settings
        if self._untied < limits.gradient_rows and self._no_gradient < limits.gradient_rows_unsure:
            return None
        return warning(
            f"Gradient norm has been 0 for {self._no_gradient} steps although rewards differ: nothing is trained",
            rows=self._no_gradient, rows_with_untied_groups=self._untied, reward_std=signals.get("reward_std"),
            advantage_std=signals.get("advantage_std"), learning_rate=signals.get("learning_rate"),
        )


def _nothing_to_learn(signals: dict[str, float]) -> bool:
    """All groups tie, or all rewards or advantages are equal."""
    return (
        signals.get("frac_reward_zero_std", 0.0) >= 1.0
        or signals.get("advantage_std", 1.0) <= TINY
        or signals.get("reward_std", 1.0) <= TINY
    )
