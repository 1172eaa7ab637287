"""How much of its best a reward has kept."""

from __future__ import annotations

from collections import deque
from math import sqrt
from typing import Any, NamedTuple

from rlwatch.streaming.compare import above
from rlwatch.streaming.followed import Followed

SPAN = 60
"""Rows kept, enough for the longest look back."""

YOUNG = 10
"""Rows in which all rows weigh the same."""

_FAST, _SLOW = 0.1, 0.03
"""Weights of a row in the two running means: means of about 20 and 65 rows."""

_STEADY = 250
"""Rows whose noise counts alike; it is remembered for about as long."""

_DELAY = 8
"""Rows, at most, whose noise does not count yet: a fall must not pass for noise while it is judged."""

_KNOWN = 5
"""Rows that it takes to know a level to fall from."""

_HUGE, _TINY = 1e100, 1e-200
"""Rewards are clipped here, so that their squares stay finite; a square below the other is none."""

_PRIOR, _PRIOR_ROWS = 0.25, 8.0
"""Noise of a row, as a share of the height, that is assumed until rows have shown it, and how many rows it is worth."""


_RELATED, _MOST_ALIKE = 15, 0.8
"""Rows before which neighbours count as independent, and their correlation that is believed, at most."""

_LEAST_HEIGHT, _LEAST_RANGE = 4.0, 6.0
"""Least height, in sigmas of the level's own wandering: what rises no higher has not risen, and cannot collapse.
The second is for rewards that may be negative, which have no floor."""

_LOWEST, _MOST_SIGMAS = -10.0, 1e6
"""What a fall is clipped to: far below the floor, and surer than anything."""

_HIGHEST = 0.56
"""Variance of the highest of 3 values, as a share of the variance of one."""


class Fall(NamedTuple):
    """The level of the last `rows` rows, the share of the height that it still has, and how sure the fall is.

    `peak` is the mean that it is compared with, `sigmas` the distance from it in standard errors of both.
    """

    rows: int
    level: float
    peak: float
    left: float
    sigmas: float


class Standing(Followed):
    """The peak of a reward's running mean, its floor and its noise, and where the last rows stand between them.

    The height of a reward that was never negative is its peak: the floor is zero. Rewards that go below zero (returns,
    penalties, scores of a reward model) have no natural floor, and ratios to their peak mean nothing: their height is
    the range from the lowest to the highest running mean, or the size of the peak if that is more.

    Cheap to push to; the questions are asked when another signal, or the running mean, looks wrong. Several detectors
    may share one: `follow` takes in a row once, whoever asks first.

    Attributes:
        rows: rewards seen.
        mean: running mean, of about the last 20 rows.
        peak: its highest value since the fifth row.
        slow_peak: the highest value of a running mean of about 65 rows, for rewards whose rows are mostly noise.
        low: the lowest running mean before the peak.
        signed: whether a reward below zero was seen.
    """

    __slots__ = (
        "_before",
        "_last",
        "_lowest",
        "_opening",
        "_products",
        "_slow",
        "_squares",
        "_step",
        "low",
        "mean",
        "peak",
        "peak_row",
        "rows",
        "signed",
        "slow_peak",
        "slow_peak_row",
    )

    def __init__(self) -> None:
        super().__init__()
        self.rows = self.peak_row = self.slow_peak_row = 0
        self.mean = self.peak = self.low = self.slow_peak = 0.0
        self._lowest = self._slow = self._before = self._step = 0.0
        self.signed = False
        self._squares: deque[float] = deque([0.0], maxlen=_DELAY + 1)
        self._products: deque[float] = deque([0.0], maxlen=_DELAY + 1)
        self._opening: list[float] = []
        self._last: deque[float] = deque(maxlen=SPAN)

    def push(self, x: float) -> None:
        """Take in the reward of a row."""
        if not -_HUGE < x < _HUGE:
            x = _HUGE if x > 0.0 else -_HUGE
        self._last.append(x)
        self.rows = rows = self.rows + 1
        if x < 0.0:
            self.signed = True
        if rows > 1:
            self._learn_noise(x - self._before)
        self._before = x
        if rows > YOUNG:
            mean = self.mean = self.mean + _FAST * (x - self.mean)
        else:
            self._opening.append(x)
            mean = self.mean = self.mean + (x - self.mean) / rows
        slow = self._slow = self._slow + (x - self._slow) * (_SLOW if rows > 33 else 1.0 / rows)
        if rows <= _KNOWN:
            self.peak = self.low = self._lowest = mean
        if mean > self.peak:
            self.peak, self.low, self.peak_row = mean, self._lowest, rows
        elif mean < self._lowest:
            self._lowest = mean
        if slow > self.slow_peak or rows <= 20:
            self.slow_peak, self.slow_peak_row = slow, rows

    def _learn_noise(self, step: float) -> None:
        """Mean square of the steps between rows, and mean product of neighbouring steps: trends hardly enter these."""
        count = self.rows - 1
        square, product = self._squares[-1], self._products[-1]
        new, both = step * step, step * self._step
        if count > YOUNG:
            limit = 16.0 * square + 0.01 * self.peak * self.peak
            new = new if new < limit else limit
            both = limit if both > limit else -limit if both < -limit else both
        weight = 1.0 / (count if count < _STEADY else _STEADY)
        self._squares.append(square + weight * (new - square))
        self._products.append(product + weight * (both - product))
        self._step = step

    @property
    def height(self) -> float:
        """Distance from the floor to the peak."""
        if not self.signed:
            return self.peak
        return max(self.peak - self.low, abs(self.peak))

    @property
    def range(self) -> float:
        """Distance from the lowest to the highest running mean of the whole run."""
        return self.peak - self._lowest

    def noise(self, ago: int = 0) -> tuple[float, float]:
        """Standard deviation of a row, and how many rows are worth one independent row, as known some rows ago.

        For steps of mean square s and neighbouring product p, rows that are correlated by r (AR(1)) have p = -(1 - r) s
        / 2 and the variance s / (2 (1 - r)); (1 + r) / (1 - r) of them are worth one.
        """
        ago = min(ago, len(self._squares) - 1)
        square, product = self._squares[-1 - ago], self._products[-1 - ago]
        rows = max(0, self.rows - ago)
        known = square > _TINY and rows >= _RELATED
        r = min(max(1.0 + 2.0 * product / square, 0.0), _MOST_ALIKE) if known else 0.0
        own = sqrt(square / (2.0 * (1.0 - r)))
        sigma = (own * rows + _PRIOR * self.height * _PRIOR_ROWS) / (rows + _PRIOR_ROWS)
        return sigma, (1.0 + r) / (1.0 - r)

    def fall(self, rows: int, known: int = _KNOWN) -> Fall | None:
        """Where the mean of the last `rows` stands, of 3 the highest; None where there is nothing to judge.

        There must be `known` rows before them.
        More than 20 rows are compared with the slow peak. The window must lie after the peak: in a run that rises
        fast, an old mean lies far below the newest, too.
        """
        height, slow = self.height, rows > 20
        peak = self.slow_peak if slow else self.peak
        since = self.rows - (self.slow_peak_row if slow else self.peak_row)
        if self.rows < rows + known or since < rows or height <= 0.0:
            return None
        last = list(self._last)[-rows:]
        level = max(last) if rows == 3 else sum(last) / rows
        noise, kinship = self.noise(rows)
        share = min(1.0, (_HIGHEST if rows == 3 else 1.0 / rows) * kinship) + 0.6 * (_SLOW if slow else _FAST) * kinship
        height = height if self.signed else peak
        if not slow:
            height = max(height, (_LEAST_RANGE if self.signed else _LEAST_HEIGHT) * noise * sqrt(kinship))
        drop, error = peak - level, noise * sqrt(share)
        if error <= 0.0:
            return None
        return Fall(rows, level, peak, max(_LOWEST, 1.0 - drop / height), min(drop / error, _MOST_SIGMAS))

    def fallen(self, left: float = 0.7, sigmas: float = 3.0) -> bool:
        """Whether the last 2, 3 or 8 rows are well below the peak: enough to bear out another signal, not to alarm."""
        for rows in (2, 3, 8):
            now = self.fall(rows, known=3)
            if now is not None and now.left < left and now.sigmas > sigmas:
                return True
        return False

    def rising(self) -> bool:
        """Whether the last rows are better than the rows 30-60 back, or than the first, by more than the noise."""
        last = list(self._last)
        recent = last[-max(1, min(20, len(last) // 2)) :]
        if len(last) == SPAN:
            return above(recent, last[: SPAN // 2])
        return self.rows >= 6 and above(recent, self._opening[: max(3, min(YOUNG, self.rows // 2))])

    def state_dict(self) -> dict[str, Any]:
        """The levels, the noise and the rewards kept, oldest first."""
        return {
            "rows": [self.rows, self.peak_row, self.slow_peak_row],
            "levels": [self.mean, self.peak, self.low, self._lowest, self._slow, self.slow_peak],
            "before": [self._before, self._step],
            "squares": list(self._squares),
            "products": list(self._products),
            "signed": self.signed,
            "opening": list(self._opening),
            "last": list(self._last),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.rows, self.peak_row, self.slow_peak_row = (int(n) for n in state["rows"])
        self.mean, self.peak, self.low, self._lowest, self._slow, self.slow_peak = (float(x) for x in state["levels"])
        self._before, self._step = (float(x) for x in state["before"])
        self._squares = deque((float(x) for x in state["squares"]), maxlen=_DELAY + 1)
        self._products = deque((float(x) for x in state["products"]), maxlen=_DELAY + 1)
        self.signed = bool(state["signed"])
        self._opening = [float(x) for x in state["opening"]]
        self._last = deque((float(x) for x in state["last"]), maxlen=SPAN)
