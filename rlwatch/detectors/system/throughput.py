"""Steps take longer than they did, or memory climbs and does not stop."""

from __future__ import annotations

from collections.abc import Container, Mapping
from math import inf
from typing import Any, ClassVar, Literal

from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical, warning
from rlwatch.observation import Observation
from rlwatch.streaming import positive
from rlwatch.streaming.blocks import Blocks
from rlwatch.streaming.gate import Gate, Passage
from rlwatch.streaming.level import Level
from rlwatch.streaming.opening import Opening
from rlwatch.streaming.streak import Streak
from rlwatch.streaming.surge import Reading, Surge

_TIMES = ("step_time", "tokens_per_second")
_MEMORY_NAMES = ("memory_allocated", "memory_reserved")
_MEMORY = frozenset(_MEMORY_NAMES)
_BLOCK = 5
"""Rows of which the median is judged."""

_LEAST = 1e-90
"""Seconds that stand for none."""

_LENGTH = "response_length_mean"


class Throughput(Detector):
    """Time of a step (or 1 / throughput) several times its baseline, and accelerator memory that climbs steadily.

    Slow single steps are normal (compilation, evaluation, checkpoints), and so are steps that are slow in turn: with
    one generation for several updates every second one took 12x as long in healthy runs (measured). So what is judged
    are blocks of 5 rows by their median: the median of 3 blocks, which has to be above what a tenth of the earlier
    blocks reached. Longer responses take longer: a step's time is divided by the growth of its tokens since the start.
    What the baseline follows is compared with the first blocks. Environment steps per second are not judged: where they
    are logged (Stable-Baselines3, CleanRL) they are a mean since the start, which one pause of the machine lowers for
    good.

    Peak memory only ever rises, by up to 4 % over healthy runs (measured): a leak rises block after block at a steady
    pace. Host memory is not judged: loggers report the whole machine's, and it went from 36 to 307 GB in a healthy run.
    A stalled step never reaches a detector; that is for the heartbeat.
    """

    id: ClassVar[str] = "throughput"
    link: ClassVar[Link] = Link.SYSTEM
    core: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = _TIMES + _MEMORY_NAMES
    warmup: ClassVar[int] = _BLOCK * 10
    state: ClassVar[tuple[str, ...]] = (
        "_source", "_filling", "_surge", "_opening", "_slow", "_tokens", "_memory", "_memory_of",
    )  # fmt: skip

    class Settings(DetectorSettings):
        """Slow is no reason to halt a run: a warning, unless `severity` says otherwise."""

        severity: Literal["warning", "critical"] = Field(
            "warning", description="the highest tier it may raise; 'critical' lets critical_times halt a run"
        )
        cooldown: int = Field(200, ge=0, description="rows after an alert in which it is not repeated")
        rearm: int = Field(100, ge=1, description="quiet rows after which the trouble counts as over")
        warning_times: float = Field(2.0, gt=1, description="times its baseline, median of 3 blocks, that warn")
        critical_times: float = Field(10.0, gt=1, description="times its baseline, median of 5 blocks: critical")
        sigma: float = Field(5.0, gt=0, description="sigmas above the baseline (log scale) that must be passed as well")
        growth_times: float = Field(4.0, gt=1, description="times the first blocks, for 12 blocks, that warn")
        memory_growth: float = Field(1.3, gt=1, description="steady growth of memory over 8 blocks that warns")

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._source = self._memory_of = ""
        self._tokens = Level()
        self._memory = Blocks()
        self._gate = Gate(0)  # open for any time, as long as it completes no block
        self._gate.low, self._gate.high = -inf, inf
        self._reset()

    def gate(self, signals: Container[str]) -> Passage | None:
        """All rows may wait but those that complete a block."""
        if "step_time" not in signals or any(name in signals for name in _MEMORY_NAMES):
            return None
        return Passage("step_time", self._gate, whole=True)

    def _reset(self) -> None:
        self._gate.room = 0
        self._filling: list[float] = []
        self._surge = Surge(short=3, lasting=5, sigma=0.1)
        self._opening = Opening(3)
        self._slow = Streak(12)

    def check(self, obs: Observation) -> Finding | None:
        """Judge the time of the step, and the memory where it came."""
        signals = obs.signals
        if self._source == "step_time" and _MEMORY.isdisjoint(signals) and "step_time" in signals:
            rows = self._gate.rows
            rows.append(signals)
            return self._settle() if len(rows) + len(self._filling) >= _BLOCK else None
        self._settle()
        for name in ("step_tokens", _LENGTH):
            if name in signals:
                self._tokens.push(positive(signals[name]))
                break
        found = None
        for source in _TIMES:
            if source in signals:
                found = self._time(source, positive(signals[source]))
                break
        for name in _MEMORY_NAMES:
            if name in signals:
                return found or self._climbs(name, positive(signals[name]))
        return found

    def _settle(self) -> Finding | None:
        """Judge the rows that wait: nothing is said before a block of them is complete."""
        found, gate = None, self._gate
        rows, gate.rows = gate.rows, []
        for signals in rows:
            tokens = signals.get("step_tokens")
            if tokens is None:
                tokens = signals.get(_LENGTH)
            if tokens is not None:
                self._tokens.push(positive(tokens))
            found = self._time("step_time", positive(signals["step_time"]))
        return found

    def state_dict(self) -> dict[str, Any]:
        """All that the next row's judgement depends on, as JSON values."""
        self._settle()
        return super().state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._gate.rows, self._gate.room = [], 0
        super().load_state_dict(state)

    def _time(self, source: str, value: float) -> Finding | None:
        if source != self._source:
            if self._source and _TIMES.index(source) > _TIMES.index(self._source):
                return None
            self._source = source
            self._reset()
        if not value:
            return None
        if source == "step_time":
            x, tokens = value, self._tokens
            if tokens.now > tokens.opening > 0.0 and tokens.rows > 5:
                x /= tokens.now / tokens.opening
        else:
            x = 1.0 / value
        filling = self._filling
        filling.append(x if x > _LEAST else _LEAST)
        if len(filling) < _BLOCK:
            self._gate.room = _BLOCK - 1 - len(filling) if source == "step_time" else 0
            return None
        self._gate.room = _BLOCK - 1 if source == "step_time" else 0
        x = sorted(filling)[_BLOCK // 2]
        filling.clear()
        opening = self._opening
        opening.push(x)
        now = self._surge.push(x)
        grown = len(opening) == opening.size and x > self.settings.growth_times * opening.level
        lasting = self._slow.push(grown)
        if now is not None and now.new and now.times > self.settings.warning_times:
            return self._sudden(value, now)
        return self._slower("that of the first steps", value, x / opening.level, opening.level) if lasting else None

    def _sudden(self, value: float, now: Reading) -> Finding | None:
        limits = self.settings
        if now.sigmas < limits.sigma:
            return None
        found = self._slower("its baseline", value, now.times, now.center)
        if now.unseen and now.lasting_times > limits.critical_times and now.lasting_sigmas > limits.sigma:
            return critical(found.message, **found.evidence)
        return found

    def _slower(self, than: str, value: float, times: float, reference: float) -> Finding:
        is_time = self._source == "step_time"
        now = f"{value:.3g} s" if is_time else f"{self._source} = {value:.3g}"
        return warning(
            f"Steps became {times:.2g}x slower: {now}, against {than}",
            signal=self._source, value=value, times=times, reference=reference if is_time else 1.0 / reference,
            tokens_grew=self._tokens.times,
        )

    def _climbs(self, name: str, value: float) -> Finding | None:
        if name != self._memory_of:
            self._memory_of, self._memory = name, Blocks()
        if not self._memory.push(value):
            return None
        trend = self._memory.trend(8)
        if trend is None or trend.last < self.settings.memory_growth * trend.first:
            return None
        means = [block[0] for block in self._memory.blocks][-(trend.rows // self._memory.length) :]
        middle = len(means) // 2
        steady = means[-1] - means[middle] > 0.6 * (means[middle] - means[0])
        if not steady or (self._tokens.times or 1.0) > 1.2:
            return None
        return warning(
            f"Memory climbs: {name} went from {trend.first:.3g} to {trend.last:.3g} GB over {trend.rows} steps "
            "without a pause",
            signal=name, first=trend.first, last=trend.last, rows=trend.rows,
        )
