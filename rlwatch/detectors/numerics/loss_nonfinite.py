"""The loss or the gradient is not a number any more."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical
from rlwatch.observation import Observation

_NAMES = {
    "loss": "Loss",
    "policy_loss": "Policy loss",
    "value_loss": "Value loss",
    "grad_norm": "Gradient norm",
    "critic_grad_norm": "Critic's gradient norm",
    "kl": "KL divergence",
    "approx_kl": "Approximate KL",
    "ratio": "Importance ratio",
}


class LossNonfinite(Detector):
    """A NaN or an infinity in the loss, the gradient, the KL or the ratio: critical at that very step.

    Only these count as numerically dead: explained variance, logits and lengths are NaN at times in runs that are
    healthy (measured: SB3's A2C, TRL #2435). There is no lead to rely on (verl #721: the step before the NaN looked
    normal), so the step itself is guarded: see `Verdict.poisoned`.
    """

    id: ClassVar[str] = "loss_nonfinite"
    link: ClassVar[Link] = Link.NUMERICS
    needs: ClassVar[tuple[str, ...]] = tuple(_NAMES)
    lag: ClassVar[int] = 1
    judges_nonfinite: ClassVar[bool] = True
    state: ClassVar[tuple[str, ...]] = ("_finite_rows", "_in_a_row")

    class Settings(DetectorSettings):
        """Every new outbreak is told: the trouble is over after `rearm` finite rows."""

        cooldown: int = Field(0, ge=0, description="rows after an alert in which it is not repeated")
        rearm: int = Field(3, ge=1, description="finite rows after which the trouble counts as over")

    def __init__(self, settings: DetectorSettings | dict[str, object] | None = None) -> None:
        super().__init__(settings)
        self._finite_rows = 0
        self._in_a_row = 0

    def check(self, obs: Observation) -> Finding | None:
        """Critical at the first value of `needs` that is not finite."""
        if not obs.nonfinite:
            self._finite_rows += 1
            self._in_a_row = 0
            return None
        bad = {name: _text(obs.nonfinite[name]) for name in _NAMES if name in obs.nonfinite}
        if not bad:
            return None
        self._in_a_row += 1
        name, value = next(iter(bad.items()))
        message = f"{_NAMES[name]} is non-finite ({value})"
        others = [f"{other} {text}" for other, text in bad.items() if other != name]
        if others:
            message += f"; so are {', '.join(others)}" if len(others) > 1 else f"; so is {others[0]}"
        evidence = {"values": bad, "finite_rows_before": self._finite_rows, "rows_in_a_row": self._in_a_row}
        self._finite_rows = 0
        return critical(message, **evidence)


def _text(value: float) -> str:
    if value != value:
        return "NaN"
    return "+Inf" if value > 0 else "-Inf"
