"""The policy turns into noise."""

from __future__ import annotations

from collections.abc import Container, Mapping
from math import exp, inf, log
from typing import Any, ClassVar

from pydantic import Field

from rlwatch.detectors.base import Detector, DetectorSettings, Finding, Link, critical, warning
from rlwatch.observation import Observation
from rlwatch.streaming.baseline import HELD
from rlwatch.streaming.gate import BELOW_ZERO, Gate, Passage
from rlwatch.streaming.opening import Opening
from rlwatch.streaming.recent import Recent
from rlwatch.streaming.standing import Standing
from rlwatch.streaming.streak import Streak
from rlwatch.streaming.usual import TINY, Usual

_SIGMA = 4.0
"""Sigmas (log scale) above what is usual that a sudden rise must have as well: noisy entropies jump by themselves."""

_REGAINED, _LEARNT = 0.6, 0.88
"""Share of what the entropy had lost that makes it be back, and share of its opening below which it had left it."""

_LEARNT_SPREADS = 1.5
"""Spreads of a row that the entropy must have come down by: what merely wanders has not learnt."""

_UNLEARNT_SURE, _UNLEARNT_ROWS, _UNLEARNT_LONG = 2, 8, 16
"""Rows, net of the others, in which it is back and the reward is lost, that warn (the first where the loss is beyond
doubt) and that are critical."""

_SURE_LEFT, _SURE_SIGMA = 0.6, 5.0
"""Share of the reward's peak left, and standard errors of the fall, that are beyond doubt."""


class EntropyExplosion(Detector):
    """Entropy several times its baseline, and what the reward says to it.

    Measured in language models: healthy entropies rise to 1.75x their start (p75), 2.4x (p95), 4.1x at most; failing
    runs reach 2.6-64x, as .2 -> 2-8 nats. Bumps that come back after a few rows are common, and so are slow rises
    that the reward pays for. So a sudden rise of 2.5x, or a slow one of 4x, speaks when the reward has fallen with it;
    without that (or where no reward is logged) it takes 5x, at a level where text falls apart, over 5 rows; a rising
    reward excuses it. A policy over few actions begins near its largest entropy (ln 2 for two), of which no multiple
    can be reached: there the rise is a return towards the opening (three fifths of what it had lost since), while what
    the reward had gained is lost, too. Both for 16 rows is critical: what was learnt is being unlearnt.

    Compared are the last rows with what was usual lately (a sudden rise) and with the run's opening (a slow one).
    Differential entropy (continuous actions) passes zero in health and has no ratio: it is not judged.
    """

    id: ClassVar[str] = "entropy_explosion"
    link: ClassVar[Link] = Link.EXPLORATION
    core: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("entropy",)
    warmup: ClassVar[int] = 6
    shares: ClassVar[tuple[str, ...]] = ("_standing",)
    state: ClassVar[tuple[str, ...]] = (
        "_opening", "_usual", "_levels", "_standing", "_differential", "_least", "_back",
    )  # fmt: skip

    class Settings(DetectorSettings):
        """Compared are medians of 3 rows, of 5 where the reward has not fallen. Levels are in nats per token."""

        warning_times: float = Field(2.5, gt=1, description="times the last rows that warn when the reward has fallen")
        critical_times: float = Field(4.0, gt=1, description="times the last rows that are critical when it has fallen")
        slow_times: float = Field(4.0, gt=1, description="times the opening that warn when it has; critical at twice")
        alone_times: float = Field(5.0, gt=1, description="times the baseline that warn although it has not fallen")
        rise: float = Field(0.5, ge=0, description="nats above the baseline below which nothing is said")
        alone_level: float = Field(2.0, ge=0, description="nats below which nothing is said if it has not fallen")

    def __init__(self, settings: DetectorSettings | dict[str, Any] | None = None) -> None:
        super().__init__(settings)
        self._opening = Opening(5)
        self._usual = Usual(span=50)
        self._levels = Recent(5)
        self._standing = Standing()
        self._differential = False
        self._least = 0.0  # the lowest usual level, as log x
        self._back = Streak(_UNLEARNT_LONG)
        self._gate = Gate(HELD - 1)

    def gate(self, signals: Container[str]) -> Passage | None:
        """Entropies that are too low to speak may wait; differential ones do not."""
        return Passage("entropy", self._gate) if "entropy" in signals and "action_std" not in signals else None

    def check(self, obs: Observation) -> Finding | None:
        """Judge the level of the last 3 rows when this row is high itself."""
        if self._standing.followed is not obs:
            self._standing.follow(obs)
        x = obs.signals.get("entropy")
        if x is None:
            return None
        gate = self._gate
        if gate.low < x < gate.high and "action_std" not in obs.signals:  # too low to speak for certain
            gate.held.append(x)
            if len(gate.held) > gate.room:
                self.catch_up()
            return None
        if x < 0.0 or "action_std" in obs.signals or self._differential:
            self.catch_up()
            self._differential = True
            return None
        self._take_in()  # and look ahead at the end
        usual, finding = self._usual, None
        self._levels.push(x)
        if usual.rows < self._opening.size:
            self._opening.push(x)
        if x > self.settings.rise and usual.rows >= 3:
            finding = self._judge(x)
        elif self._back.rows:
            self._back.push(False)
        self._learn(x)
        self._look_ahead()
        return finding

    def _learn(self, x: float) -> None:
        usual = self._usual
        usual.push(x)
        if usual.middle < self._least or usual.rows <= self._opening.size:
            self._least = usual.middle

    def _look_ahead(self) -> None:
        """Below which entropy the next rows cannot speak, nor make the last ones speak."""
        limits, usual, last = self.settings, self._usual, self._levels.values
        gate = self._gate
        gate.low = gate.high = 0.0
        if usual.rows >= usual.span and not self._differential:
            opening, rows, limit = self._opening.level, HELD, inf
            while (lowest := exp(usual.middle - usual.reach(rows))) <= _LEARNT * opening and rows > 2:
                rows //= 2
            if lowest <= _LEARNT * opening:
                rows = HELD
                lowest = exp(usual.middle - usual.reach(rows))
            least = min(lowest, exp(self._least))
            if least <= _LEARNT * opening:  # it has left its opening: a return to it could speak
                limit = 0.0 if self._back.rows else self._level_of_return(least)
            limit = min(limit, limits.warning_times * lowest, limits.slow_times * opening)
            gate.room = rows - 1
            if last[-1] < limit or last[-2] < limit:  # the median of 3 rows stays below it, too
                gate.low, gate.high = BELOW_ZERO, limit

    def catch_up(self) -> None:
        """Take in the rows that wait."""
        if self._take_in():
            self._look_ahead()

    def _take_in(self) -> bool:
        """The same, for a caller that looks ahead itself; False where nothing waits."""
        held = self._gate.held
        if not held:
            return False
        self._gate.held = []
        self._levels.values.extend(held)
        for x in held:
            self._learn(x)
        return True

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._gate.close()
        super().load_state_dict(state)

    def _judge(self, x: float) -> Finding | None:
        limits, levels, usual = self.settings, self._levels, self._usual
        level = levels.median_of(3)
        if level is None:
            return None
        lately, opening = usual.level, self._opening.level
        if level < limits.warning_times * lately and level < limits.slow_times * opening:
            return self._unlearnt(x, level)
        sudden = usual.sigmas(level) > _SIGMA
        reference, times = (lately, limits.warning_times) if sudden else (opening, limits.slow_times)
        if level < max(times * reference, reference + limits.rise):
            return self._unlearnt(x, level)
        fallen = self._standing.fallen()
        if not fallen and (self._standing.rows and self._standing.rising()):
            return None
        if not fallen:
            level = levels.median_of(5) or 0.0
            if level < max(limits.alone_times * reference, limits.alone_level):
                return None
        return self._finding(x, level, reference, fallen, limits.critical_times if sudden else 2.0 * limits.slow_times)

    def _level_of_return(self, least: float) -> float:
        return least + _REGAINED * (self._opening.level - least)

    def _unlearnt(self, x: float, level: float) -> Finding | None:
        """The entropy goes back to where it began, and the reward that its fall had brought goes, too."""
        standing, opening, least = self._standing, self._opening.level, exp(self._least)
        back = least <= _LEARNT * opening and level >= self._level_of_return(least)
        back = back and log(opening / least) > _LEARNT_SPREADS * self._usual.spread and standing.fallen()
        self._back.push(back)
        sure = back and standing.fallen(_SURE_LEFT, _SURE_SIGMA)
        if not back or self._back.rows < (_UNLEARNT_SURE if sure else _UNLEARNT_ROWS):
            return None
        long = self._back.rows >= _UNLEARNT_LONG
        text = f"Entropy is back from {least:.3g} to {level:.3g} nats (it began at {opening:.3g}), and the reward fell"
        evidence: dict[str, Any] = {
            "entropy": x, "level": level, "lowest": least, "opening": opening,
            "reward": standing.mean, "reward_peak": standing.peak, "rows": self._back.rows,
            "rows_since_onset": self._back.rows + self.lag,
        }  # fmt: skip
        if long:
            text = f"{text} with it, for {self._back.rows} steps"
            return critical(f"{text}: what was learnt is being unlearnt", **evidence)
        return warning(f"{text} with it", **evidence)

    def _finding(self, x: float, level: float, reference: float, fallen: bool, severe_times: float) -> Finding:
        limits, standing = self.settings, self._standing
        times = level / max(reference, TINY)
        text = f"Entropy rose to {times:.3g}x its baseline, from {reference:.3g} to {level:.3g} nats"
        evidence: dict[str, Any] = {
            "entropy": x,
            "level": level,
            "baseline": reference,
            "opening": self._opening.level,
            "times": times,
            "reward_fallen": fallen if standing.rows else "unknown: no reward is logged",
        }
        if standing.rows:
            evidence |= {"reward": standing.mean, "reward_peak": standing.peak}
        if fallen:
            text += ", and the reward fell with it"
            severe = times >= severe_times and level >= reference + 2.0 * limits.rise
        else:
            severe = not standing.rows and times >= 2.0 * limits.alone_times and level >= 2.0 * limits.alone_level
        return critical(text, **evidence) if severe else warning(text, **evidence)
