"""The controller of the KL penalty loses its target: it is outrun, it swings, or it has stopped moving."""

from __future__ import annotations

from math import exp, log
from typing import Any, ClassVar

from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical, warning
from rlwatch.observation import Observation
from rlwatch.streaming import positive
from rlwatch.streaming.blocks import Blocks
from rlwatch.streaming.means import Means
from rlwatch.streaming.streak import Streak
from rlwatch.streaming.zigzag import Zigzag

_CONTROLLED = ("kl", "kl_sequence", "approx_kl")
"""What the penalty holds, best first: TRL's old PPO controls the sum over a response, RLlib the old-to-new KL."""

_STOPPED = ("approx_kl",)
"""What a target belongs to where nothing steers KL: PPO's early stop of its epochs."""

_MOVES = 10
"""Changes of the coefficient that make it a controller's: a fixed penalty and one set by hand have fewer."""

_SPIKE = 5.0
"""A row counts as at most this multiple of the mean so far."""

_FAR = 3.0
"""A row is at most this far off its level on the log scale (20x)."""


_UNKNOWN = 2.5
"""By how much more KL must have grown where the target is not known: RLlib's rule leaves the coefficient alone between
half the target and twice, and KL begins at 0."""


class KlController(Detector):
    """KL against its target, and against what the coefficient does about it.

    An adaptive penalty is a thermostat with the coefficient as its heater (Ziegler et al. 2019, arXiv:1909.08593: beta
    times 1 + clip(KL/target - 1, +-.2) x samples / horizon; RLlib: times 1.5 above 2x, times .5 below half of it).
    It fails in four ways:

    - KL stays above 3x its target, the field guides' point to stop: for 40 rows a warning, for 60 rows, and not
      falling, critical.
    - KL trebles while the coefficient rises by half: the policy outruns the controller.
    - The coefficient swings up and down again and again while KL is off its level by 2x on average: the controller is
      too fast for its lag.
    - The coefficient, which moved before, no longer does while KL is above its target: it sits at its bound.

    The first is critical only where something holds KL to the target: a coefficient that has moved, or the setting. A
    target beside a fixed penalty, or none, is the one at which PPO stops its epochs early: the old-to-new KL is held
    against it, never the KL to the reference, and it only warns.

    KL is a mean of about 10 rows. The target is the signal `kl_target` or the setting; without one the first way is not
    judged, and the second and the last take 2.5 times as much growth, from the KL that the run had then.
    """

    id: ClassVar[str] = "kl_controller"
    link: ClassVar[Link] = Link.POLICY
    core: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("kl_coef", "kl_target")
    warmup: ClassVar[int] = 40
    state: ClassVar[tuple[str, ...]] = (
        "_source", "_kl", "_off", "_over", "_swings", "_kl_blocks", "_coef_blocks", "_coef", "_moves", "_still",
        "_then",
    )  # fmt: skip

    class Settings(DetectorSettings):
        """Multiples are of the target."""

        cooldown: int = Field(100, ge=0, description="rows after an alert in which it is not repeated")
        rearm: int = Field(50, ge=1, description="quiet rows after which the trouble counts as over")
        target: float | None = Field(None, gt=0, description="the controller's target, where it is not logged")
        times: float = Field(3.0, gt=1, description="multiple of the target that is a failure where it lasts")
        warning_rows: int = Field(40, ge=1, description="rows (net) above that multiple that warn")
        critical_rows: int = Field(60, ge=1, description="rows (net) above that multiple that are critical")
        growth: float = Field(3.0, gt=1, description="growth of KL under a rising coefficient that warns")
        swing: float = Field(3.0, gt=1, description="size of the coefficient's swings (8 turns in 120 rows) that warn")
        stuck_rows: int = Field(30, ge=1, description="rows without a move of the coefficient, KL being off, that warn")

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._source = ""
        self._coef: float | None = None
        self._moves = 0
        self._still = 0
        self._reset()

    def _reset(self) -> None:
        self._kl, self._off = Means(), Means()
        self._then = 0.0
        self._over = Streak(self.settings.critical_rows)
        self._swings = Zigzag(log(self.settings.swing), turns=8, span=120)
        self._kl_blocks, self._coef_blocks = Blocks(), Blocks()

    def check(self, obs: Observation) -> Finding | None:
        """Judge the controlled KL; a penalty that never moves and has no target costs next to nothing."""
        signals = obs.signals
        target = positive(self.settings.target or signals.get("kl_target") or 0.0)
        coef = signals.get("kl_coef")
        if coef is not None:
            self._follow(coef)
        if not self._moves and not target:
            return None
        controlled = _CONTROLLED if self._moves or self.settings.target else _STOPPED
        source = next((name for name in controlled if name in signals), None)
        if source is None:
            return None
        if source != self._source:
            self._source = source
            self._reset()
        x = positive(abs(signals[source]))
        kl = self._kl
        kl.push(min(x, _SPIKE * kl.fast) if kl.fast > 0.0 else x)
        found = self._above(target, coef) if target else None
        if found is not None or coef is None or not self._moves:
            return found
        return self._controller(x, coef, target)

    def blind(self) -> tuple[str, str]:
        """A penalty that never moved and has no target, or no KL to hold against it."""
        if self._seen < self.warmup or self._kl.rows:
            return "", ""
        if not self._moves and self._signal == "kl_coef" and self.settings.target is None:
            return "the coefficient never moved and no target is logged: a fixed penalty has no controller", (
                "none is needed; to hold KL to a target all the same, set kl_controller.target"
            )
        return f"{self._signal} came without its KL", "log approx_kl, or kl and the kl_coef that moves with it"

    def _follow(self, coef: float) -> None:
        """How often the coefficient moved, since when it has not, and what KL was then."""
        if self._coef is not None and coef != self._coef:
            self._moves += 1
            self._still = 0
            self._then = self._kl.fast
        else:
            self._still += 1
        self._coef = coef

    def _above(self, target: float, coef: float | None) -> Finding | None:
        limits, kl = self.settings, self._kl
        self._over.push(kl.fast > limits.times * target)
        rows = self._over.rows
        if rows < limits.warning_rows or kl.slow < 2.0 * target:
            return None
        text = f"KL = {kl.fast:.3g}, {kl.fast / target:.3g}x its target of {target:.3g}, for {rows} steps"
        evidence = {"signal": self._source, "level": kl.fast, "target": target, "rows": rows, "coefficient": coef}
        held = self._moves or limits.target
        if held and rows >= limits.critical_rows and kl.fast > 0.9 * kl.slow:
            return critical(f"{text}, and not falling", **evidence)
        return warning(text, **evidence)

    def _controller(self, x: float, coef: float, target: float) -> Finding | None:
        level = target or self._kl.slow
        if x > 0.0 and level > 0.0:
            self._off.push(min(_FAR, abs(log(x) - log(level))))
        log_coef = log(positive(abs(coef)) or 1e-100)
        swings = self._swings.push(log_coef)
        self._coef_blocks.push(log_coef)
        if self._kl_blocks.push(self._kl.fast) and (drift := self._drift(coef, target)) is not None:
            return drift
        if self._moves < _MOVES:
            return None
        if swings and self._off.slow > log(2.0):
            low, high, off = exp(self._swings.low), exp(self._swings.high), exp(self._off.slow)
            return warning(
                f"KL oscillates: its coefficient turned 8 times within 120 steps (lately between {low:.3g} and "
                f"{high:.3g}) and KL is {off:.1f}x off {'its target' if target else 'its mean'} on average",
                signal=self._source, low=low, high=high, kl=self._kl.fast, times_off=off,
            )
        return self._stuck(coef, target) if self._still >= self.settings.stuck_rows else None

    def _drift(self, coef: float, target: float) -> Finding | None:
        beta = self._coef_blocks.trend(6)
        if beta is None or beta.change < log(1.5):
            return None
        blocks = self._kl_blocks.blocks
        then, now = max(target, blocks[-(beta.rows // self._kl_blocks.length)][0]), self._kl.slow
        if now < self.settings.growth * then * (1.0 if target else _UNKNOWN) or self._kl.fast < now:
            return None
        return warning(
            f"KL drifts from {then:.3g} to {now:.3g} while its coefficient rises to {coef:.3g}: "
            "the policy outruns the controller",
            signal=self._source, kl_from=then, kl_to=now, rows=beta.rows,
            coefficient_from=exp(beta.first), coefficient_to=exp(beta.last),
        )

    def _stuck(self, coef: float, target: float) -> Finding | None:
        level, reference = min(self._kl.fast, self._kl.slow), target or self._then
        if reference <= 0.0 or level < 2.0 * reference * (1.0 if target else _UNKNOWN):
            return None
        return warning(
            f"The KL coefficient has stood at {coef:.3g} for {self._still} steps while KL = {level:.3g}, "
            f"{level / reference:.3g}x {'its target' if target else 'what it was'}: the controller no longer moves",
            signal=self._source, coefficient=coef, rows=self._still, level=level, reference=reference,
        )
