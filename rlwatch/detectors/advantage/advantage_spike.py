"""The advantages leave their scale: the baseline that centres them has stopped being useful."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, ClassVar

from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical, warning
from rlwatch.observation import Observation
from rlwatch.streaming import bounded, positive
from rlwatch.streaming.baseline import HELD
from rlwatch.streaming.gate import Gate, Passage
from rlwatch.streaming.surge import Surge


class AdvantageSpike(Detector):
    """Standard deviation of the advantages several times its rolling baseline.

    Where only the extremes are logged (verl), half their distance stands in for it (the largest, where it stands
    alone). Normalised advantages stay near 1 and cannot spike; one or two rows that recover do not speak.
    """

    id: ClassVar[str] = "advantage_spike"
    link: ClassVar[Link] = Link.ADVANTAGE
    needs: ClassVar[tuple[str, ...]] = ("advantage_std", "advantages", "advantage_max")
    warmup: ClassVar[int] = 8
    lag: ClassVar[int] = 10
    state: ClassVar[tuple[str, ...]] = ("_source", "_surge")

    class Settings(DetectorSettings):
        """Ratios are of standard deviations."""

        warning_times: float = Field(3.0, gt=1, description="times the baseline, median of 5 rows")
        critical_times: float = Field(10.0, gt=1, description="times the baseline, median of 7 rows")
        sigma: float = Field(4.0, gt=0, description="sigmas above the baseline that must be passed as well")
        gone_rows: int = Field(60, ge=1, description="rows in a row without any spread that warn")

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._source = ""
        self._gate = Gate(HELD - 1)  # of the standard deviation: rows of another source do not pass it
        self._reset()

    def _reset(self) -> None:
        self._gate.close()
        self._surge = Surge(sigma=0.2, gate=self._gate if self._source == "std" else None)

    def gate(self, signals: Container[str]) -> Passage | None:
        """Ordinary standard deviations may wait."""
        return Passage("advantage_std", self._gate) if "advantage_std" in signals else None

    def catch_up(self) -> None:
        """Take in the rows that wait."""
        self._surge.catch_up()

    def check(self, obs: Observation) -> Finding | None:
        """Judge the spread of the batch's advantages."""
        if self._source == "std" and self._surge.quiet(obs.signals.get("advantage_std", 0.0)):
            return None
        source, spread = self._spread(obs)
        if spread is None:
            return None
        if source != self._source:
            if self._source == "std":
                return None
            self._source = source
            self._reset()
        limits = self.settings
        now = self._surge.push(spread)
        name = "Advantage std" if source == "std" else "Advantage range / 2"
        gone = self._surge.gone
        if gone >= limits.gone_rows:
            return warning(
                f"{name} has been {spread:.3g} for {gone} steps (it was {self._surge.gone_from:.3g}): "
                "no sample is better than another",
                spread=spread, rows=gone, level_before=self._surge.gone_from,
            )
        if now is None or not now.new or now.sigmas < limits.sigma or now.times < limits.warning_times:
            return None
        text = f"{name} = {spread:.3g}, {now.times:.3g}x above rolling baseline"
        evidence = {"spread": spread, "of": source, "median_of_5": now.level, "baseline": now.center}
        if now.unseen and now.lasting_times > limits.critical_times and now.lasting_sigmas > limits.sigma:
            return critical(text, **evidence)
        return warning(text, **evidence)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._source = str(state["_source"])
        self._reset()
        super().load_state_dict(state)

    @staticmethod
    def _spread(obs: Observation) -> tuple[str, float | None]:
        signals = obs.signals
        if "advantage_std" in signals:
            return "std", positive(signals["advantage_std"])
        if "advantage_max" not in signals:
            return "", None
        high = bounded(signals["advantage_max"])
        low = bounded(signals.get("advantage_min", -high))
        return "range", positive((high - low) / 2)
