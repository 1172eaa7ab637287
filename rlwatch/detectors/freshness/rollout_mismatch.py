"""The trainer and the inference engine disagree on what the policy is."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical, warning
from rlwatch.observation import Observation
from rlwatch.streaming.streak import Streak

_AGREED = 5
"""Rows within all limits that show that trainer and engine can agree."""

_MOST = 1e9
"""Times beyond a limit that are not told apart."""


class RolloutMismatch(Detector):
    """Rollouts sampled from another distribution than the trainer computes gradients for.

    With the same weights on both sides only kernels and precision differ. Limits as published: a mean probability
    difference below .005 is normal and above .01 a problem (verl's FAQ); importance weights with a mean outside .5-2,
    an effective sample size below .3 of N, a KL above .1 (verl's notes on rollout correction; NeMo-RL calls 1e-3 fine);
    a log-probability difference above .1 fails slime's CI. Measured in healthy TRL runs with vLLM: .003 to .019, single
    rows, and IS means of .62 to 1.2; runs that fall apart pass .1 and .4.

    Single rows beyond a limit come with long or odd samples; it must last. Five times beyond (weights that are not
    synchronised any more) the gradients are for a policy that nobody runs: critical, where the two had agreed before.
    A mismatch of that size from the first row on (log-probabilities before the temperature, another tokenizer) only
    warns, since there is no better state to go back to and such runs may learn all the same; so do importance weights
    and their effective sample size, which shrink with the length of a response.
    """

    id: ClassVar[str] = "rollout_mismatch"
    link: ClassVar[Link] = Link.FRESHNESS
    core: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = (
        "rollout_prob_diff", "rollout_logprob_diff", "rollout_kl", "is_weight_mean", "ess",
    )  # fmt: skip
    warmup: ClassVar[int] = 20
    state: ClassVar[tuple[str, ...]] = ("_beyond", "_far", "_agreed")

    class Settings(DetectorSettings):
        """A row counts when any of the signals is beyond its limit."""

        rearm: int = Field(20, ge=1, description="quiet rows after which the trouble counts as over")
        prob_diff: float = Field(0.01, gt=0, description="mean |p trainer - p engine| beyond which a row counts")
        logprob_diff: float = Field(0.1, gt=0, description="mean |log p trainer - log p engine|, likewise (nats)")
        kl: float = Field(0.1, gt=0, description="|KL| of the engine to the trainer, likewise (nats per token)")
        is_weight: float = Field(2.0, gt=1, description="mean importance weight, likewise: above it or below 1 / it")
        ess: float = Field(0.3, gt=0, le=1, description="effective share of the samples below which a row counts")
        rows: int = Field(20, ge=1, description="such rows (net of the others) that warn")
        critical_times: float = Field(5.0, gt=1, description="times beyond a limit at which as many rows are critical")

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._beyond, self._far = Streak(self.settings.rows), Streak(self.settings.rows)
        self._agreed = 0
        limits = self.settings
        self._limits = (
            limits.prob_diff, limits.logprob_diff, limits.kl, 1.0 / limits.is_weight, limits.is_weight, limits.ess,
        )  # fmt: skip

    def check(self, obs: Observation) -> Finding | None:
        """Judge the worst of the signals that came."""
        signals = obs.signals
        if self._within(signals):
            if self._beyond.rows:
                self._beyond.push(False)
                self._far.push(False)
            self._agreed += 1
            return None
        name, apart = self._mismatch(signals)
        name, times = self._corrected(signals, name, apart)
        lasting, far = self._beyond.push(times > 1.0), self._far.push(apart > self.settings.critical_times)
        self._agreed += times <= 1.0
        if not lasting:
            return None
        text = f"Trainer and inference engine disagree: {_NAMES[name]} = {signals[name]:.3g} ({times:.2g}x its limit)"
        evidence: dict[str, Any] = {key: signals[key] for key in (*self.needs, *_DETAILS) if key in signals}
        evidence |= {"signal": name, "times": times, "rows": self._beyond.rows}
        if far and self._agreed >= _AGREED:
            return critical(f"{text} for {self._far.rows} steps", **evidence)
        return warning(f"{text} for {self._beyond.rows} steps", **evidence)

    def _within(self, signals: dict[str, float]) -> bool:
        """Whether every signal that came is within its limit: nearly every row."""
        limits, get = self._limits, signals.get
        return bool(
            get("rollout_prob_diff", 0.0) <= limits[0]
            and get("rollout_logprob_diff", 0.0) <= limits[1]
            and -limits[2] <= get("rollout_kl", 0.0) <= limits[2]
            and limits[3] <= get("is_weight_mean", 1.0) <= limits[4]
            and limits[5] <= get("ess", 1.0) <= 1.0
        )

    def _mismatch(self, signals: dict[str, float]) -> tuple[str, float]:
        """The measure of the mismatch that is furthest beyond its limit, and how many times."""
        limits = self.settings
        worst, times = "", -1.0
        if (x := signals.get("rollout_prob_diff")) is not None:
            worst, times = "rollout_prob_diff", x / limits.prob_diff
        if (x := signals.get("rollout_logprob_diff")) is not None and x > times * limits.logprob_diff:
            worst, times = "rollout_logprob_diff", x / limits.logprob_diff
        if (x := signals.get("rollout_kl")) is not None and abs(x) > times * limits.kl:
            worst, times = "rollout_kl", abs(x) / limits.kl
        return worst, min(times, _MOST)

    def _corrected(self, signals: dict[str, float], worst: str, times: float) -> tuple[str, float]:
        """The same, with the weights that correct for it."""
        limits = self.settings
        if (x := signals.get("is_weight_mean")) is not None and x >= 0.0:
            away = max(x, 1.0 / max(x, 1e-9)) / limits.is_weight
            if away > times:
                worst, times = "is_weight_mean", away
        if (x := signals.get("ess")) is not None and 0.0 <= x <= 1.0 and limits.ess > times * max(x, 1e-9):
            worst, times = "ess", limits.ess / max(x, 1e-9)
        return worst, min(times, _MOST)


_NAMES = {
    "rollout_prob_diff": "mean probability difference",
    "rollout_logprob_diff": "mean log-probability difference",
    "rollout_kl": "KL",
    "is_weight_mean": "mean importance weight",
    "ess": "effective sample size",
}

_DETAILS = ("rollout_logprob_diff_max", "rollout_prob_diff_max", "rollout_prob_corr", "is_weight_min", "is_weight_max")
