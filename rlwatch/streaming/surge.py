"""A rise of a positive, heavy-tailed signal above its own baseline, persistent or extreme."""

from __future__ import annotations

from collections import deque
from math import exp, inf, log
from typing import Any, NamedTuple

from rlwatch.streaming import TINY
from rlwatch.streaming.baseline import HELD, MARGIN, NOTABLE, TRUSTED, LogBaseline
from rlwatch.streaming.gate import Gate

_NEW = 0.18
"""How far above the baseline's upper tenth a level must be to be new, on the log scale (1.2x)."""

_UNSEEN = 0.69
"""How far above the highest earlier level a level must be to be unseen, on the log scale (2x)."""

_BLOCK = 20
"""Rows after which levels count as earlier: an explosion must not be its own precedent."""

_ZERO = -500.0
"""The log that stands for a value of zero or less: such a value is low, and no baseline."""

_GONE = 6.9
"""How far below its level a signal counts as gone, on the log scale (a thousandth)."""

_YOUNG = 40
"""Rows in which the first three are a second reference: an explosion in row 5 makes up most of its own baseline."""

_YOUNG_JUMP = 2.3
"""How far above those a row must be, on the log scale (10x), and how near each other they must be (within e)."""

_KNOWN = 20
"""Values above zero that it takes to say that a signal had a level."""


class Reading(NamedTuple):
    """Where the signal stands against its baseline.

    `level` is the median of the last rows, `lasting` of a few more; `center` the baseline's median; `sigmas` and
    `lasting_sigmas` how far they lie above it on the log scale; `new` whether the level is above nine tenths of the
    baseline's values, too: a signal that keeps jumping between two levels is not at a new one; `unseen` whether it is
    twice the highest level that the run had until some 20 rows ago.
    """

    value: float
    level: float
    lasting: float
    center: float
    sigmas: float
    lasting_sigmas: float
    new: bool
    unseen: bool

    @property
    def times(self) -> float:
        """How many times the baseline the level is."""
        return self.level / self.center

    @property
    def lasting_times(self) -> float:
        """How many times the baseline the lasting level is."""
        return self.lasting / self.center


class Surge:
    """Compares the level of the last rows with a robust log baseline of the rows before.

    Levels are medians of `short` and of `lasting` rows, so single spikes that recover, which healthy runs have at
    10-1000x, do not show. Zeros (normal under GRPO when all groups tie) enter the levels and not the baseline.

    A row below `NOTABLE` sigmas is ordinary: no detector speaks below 3. In a stretch of them, rows that are ordinary
    for certain wait, up to 8, and are taken in together: to the same effect, for a fraction of the time.

    Attributes:
        gate: the values that wait, and which others may.
        cap: rows from here on are none of them, whatever the baseline says.
        gone: rows in a row in which the signal has been below a thousandth of the level that it had.
    """

    __slots__ = (
        "_baseline",
        "_block",
        "_calm_rows",
        "_ceiling",
        "_gone_below",
        "_last_peak",
        "_logs",
        "_ordinary",
        "_start",
        "_young",
        "cap",
        "gate",
        "gone",
        "lasting",
        "short",
    )

    def __init__(
        self, window: int = 100, short: int = 5, lasting: int = 7, sigma: float = 0.2, gate: Gate | None = None
    ) -> None:
        self._baseline = LogBaseline(window, sigma)
        self.gate = Gate(HELD - 1) if gate is None else gate
        self.gate.close()
        self.cap = inf
        self.short = short
        self.lasting = lasting
        self.gone = 0
        self._gone_below = _ZERO
        self._logs: deque[float] = deque(maxlen=lasting)
        self._ordinary = 0
        self._calm_rows = short // 2
        self._young = _YOUNG
        self._start: list[float] = []
        self._block: list[float] = []
        self._last_peak = _ZERO
        self._ceiling = _ZERO

    def push(self, x: float) -> Reading | None:
        """Take in a value (0, or within TINY and HUGE) and compare the levels with the baseline before it.

        None while there is no baseline, and when the level is neither new nor unseen: then nobody has a use for it.
        """
        if self.quiet(x):
            return None
        self.catch_up()
        value = log(x) if x > 0.0 else _ZERO
        baseline = self._baseline
        middle = baseline.middle
        self._logs.append(value)
        block = self._block
        block.append(value)
        if len(block) >= _BLOCK + 2:
            self._close_block()
        notable = value > middle + NOTABLE * baseline.sigma
        if self._young:
            self._young -= 1
            notable = notable or self._jumped(value)
            if x > 0.0 and len(self._start) < 3:
                self._start.append(value)
        if notable:
            self._ordinary = 0
        else:
            self._ordinary += 1
        reading = None
        if self._ordinary <= self._calm_rows and len(baseline) >= TRUSTED:
            reading = self._read(x)
        if self.gone or value < middle - _GONE:
            self._count_gone(value)
        if x > 0.0:
            baseline.push(value)
        self._look_ahead()
        return reading

    def quiet(self, x: float) -> bool:
        """Take in a value that is ordinary for certain; False, and nothing done, for any other, which is for `push`."""
        gate = self.gate
        if not gate.low < x < gate.high:
            return False
        held = gate.held
        held.append(x)
        if len(held) >= HELD:
            self.catch_up()
        return True

    @property
    def baseline(self) -> LogBaseline:
        """Of log x, of all rows so far."""
        self.catch_up()
        return self._baseline

    def hold_below(self, cap: float) -> None:
        """Let only rows below `cap` wait from now on; to be said after a `push` that let its row not wait."""
        if cap != self.cap:
            self.cap = cap
            self._look_ahead()

    def _look_ahead(self) -> None:
        """Between which values the next rows are ordinary for certain."""
        gate = self.gate
        gate.low = gate.high = 0.0
        if self._ordinary <= self._calm_rows or self._young or self.gone:
            return
        low, high, _, most = self._baseline.bounds()
        if high > low:
            low, high = exp((low if low > most - _GONE else most - _GONE) + MARGIN), exp(high - MARGIN)
            gate.low, gate.high = low if low > TINY else TINY, high if high < self.cap else self.cap

    def catch_up(self) -> None:
        """Take in the rows that wait."""
        gate = self.gate
        if not gate.held:
            return
        values, gate.held = [log(x) for x in gate.held], []
        self._baseline.push_ordinary(values)
        self._logs.extend(values)
        self._ordinary += len(values)
        self._block.extend(values)
        if len(self._block) >= _BLOCK + 2:
            self._close_block()
        self._look_ahead()

    @property
    def gone_from(self) -> float:
        """The level that the signal had before it was gone for `gone` rows."""
        return exp(self._gone_below + _GONE)

    def _count_gone(self, value: float) -> None:
        """Rows in a row below a thousandth of the level before, which a baseline that follows the fall does not move.

        Zeros come and go in healthy runs (all groups tied: up to 25 rows in a row were measured), so callers ask for
        more.
        """
        if not self.gone:
            if len(self.baseline) < _KNOWN:
                return
            self._gone_below = self.baseline.middle - _GONE
        self.gone = self.gone + 1 if value < self._gone_below else 0

    def _jumped(self, value: float) -> bool:
        """Whether a row of a young run is far above its first three."""
        start = self._start
        return len(start) == 3 and max(start) - min(start) < 1.0 and value > max(start) + _YOUNG_JUMP

    def _close_block(self) -> None:
        """Keep the highest level (median of 3 rows) of the block that ends, and of all before it."""
        block = self._block
        peak = before = last = 2.0 * _ZERO
        for value in block[: _BLOCK + 2]:
            high = last if last > before else before
            middle = value if value < high else high  # with those of the neighbours, never above the median of 3
            if middle > peak:
                peak = middle
            before, last = last, value
        self._ceiling = max(self._ceiling, self._last_peak)
        self._last_peak = peak
        self._block = block[_BLOCK:]

    def _read(self, x: float) -> Reading | None:
        logs, baseline = list(self._logs), self._baseline
        level = _median(logs[-self.short :]) if len(logs) >= self.short else _ZERO
        middle, sigma = baseline.middle, baseline.sigma
        new, unseen = level > baseline.quantile(0.9) + _NEW, level > self._ceiling + _UNSEEN
        if self._young and not new and self._jumped(level):
            middle, sigma = max(self._start), baseline.sigma_floor * (1.0 + 4.0 / 3.0)
            new, unseen = True, False  # three rows are enough to warn, not to halt
        if not new and not unseen:
            return None
        lasting = _median(logs) if len(logs) == self.lasting else _ZERO
        return Reading(
            x, exp(level), exp(lasting), exp(middle), (level - middle) / sigma, (lasting - middle) / sigma, new, unseen
        )

    def state_dict(self) -> dict[str, Any]:
        """The state of the baseline and the last rows."""
        baseline = self.baseline  # first: it takes in the rows that wait
        return {
            "baseline": baseline.state_dict(),
            "logs": list(self._logs),
            "ordinary": self._ordinary,
            "young": self._young,
            "start": list(self._start),
            "block": list(self._block),
            "last_peak": self._last_peak,
            "ceiling": self._ceiling,
            "gone": self.gone,
            "gone_below": self._gone_below,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.gate.close()
        self._baseline.load_state_dict(state["baseline"])
        self._logs = deque((float(x) for x in state["logs"]), maxlen=self.lasting)
        self._start = [float(x) for x in state["start"]]
        self._block = [float(x) for x in state["block"]]
        self._ordinary, self._young, self.gone = int(state["ordinary"]), int(state["young"]), int(state["gone"])
        self._last_peak, self._ceiling = float(state["last_peak"]), float(state["ceiling"])
        self._gone_below = float(state["gone_below"])


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
