"""Where a noisy signal began, where it is now, and where it was at its best."""

from __future__ import annotations

from collections import deque
from math import sqrt
from typing import Any

_OPENING, _NOW = 10, 5
"""Values that make the opening and the present level, at most."""

_WEIGHT = 0.2
_STEADY = 100
"""Values whose noise counts alike; it is remembered for about as long."""

_KNOWN, _MOST_ALIKE = 20, 0.8
"""Values before which neighbours count as independent, and the most that they are believed to be alike."""

_HUGE = 1e100


class Pace:
    """The means of the first values and of the last, with the noise of one value.

    Noise is taken from the differences of neighbours, so that a trend does not pass for it.

    Attributes:
        count: values seen.
        opening: mean of the first 10 values, of the first half while there are fewer than 20.
        mean: running mean, of about the last 10 values.
        unit: whether all values lay in [0, 1]: a rate or a share.
    """

    __slots__ = ("_last", "_now", "_opening", "_product", "_square", "_step", "count", "mean", "opening", "unit")

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.opening = 0.0
        self.unit = True
        self._last = 0.0
        self._square = self._product = self._step = 0.0
        self._opening: list[float] = []
        self._now: deque[float] = deque(maxlen=_NOW)

    def push(self, x: float) -> None:
        """Take in a finite value."""
        if not -_HUGE < x < _HUGE:
            x = _HUGE if x > 0.0 else -_HUGE
        count = self.count = self.count + 1
        if count <= _OPENING:
            self._opening.append(x)
        if count <= 2 * _OPENING:
            self.opening = _mean(self._opening[: self._opened])
        if count > 1:
            step = x - self._last
            weight = 1.0 / (count - 1 if count < _STEADY else _STEADY)
            self._square += weight * (step * step - self._square)
            self._product += weight * (step * self._step - self._product)
            self._step = step
        if self.unit and not 0.0 <= x <= 1.0:
            self.unit = False
        self._last = x
        self._now.append(x)
        self.mean += (x - self.mean) * (1.0 / count if count < 1.0 / _WEIGHT else _WEIGHT)

    @property
    def noise(self) -> float:
        """Standard deviation of one value."""
        return sqrt(self._square / (2.0 * (1.0 - self._alike)))

    @property
    def _alike(self) -> float:
        """Correlation of neighbours, from the product of neighbouring steps: -(1 - r) / 2 of their square for AR(1)."""
        r = 1.0 + 2.0 * self._product / self._square if self._square > 0.0 and self.count > _KNOWN else 0.0
        return min(max(r, 0.0), _MOST_ALIKE)

    @property
    def now(self) -> float:
        """Mean of the last 5 values, of the last third while there are fewer than 15."""
        return _mean(list(self._now)[-self._recent :])

    @property
    def gain(self) -> float:
        """The present level less the opening."""
        return self.now - self.opening

    @property
    def error(self) -> float:
        """Standard error of the gain."""
        return self.noise * sqrt(self._share(self._opened) + self._share(self._recent))

    @property
    def error_from_mean(self) -> float:
        """Standard error of the present level less an earlier running mean."""
        return self.noise * sqrt(self._share(self._recent) + self._share((2.0 - _WEIGHT) / _WEIGHT))

    def _share(self, values: float) -> float:
        """Variance of the mean of so many values, as a share of the variance of one."""
        r = self._alike
        return min(1.0, (1.0 + r) / (1.0 - r) / values)

    @property
    def _opened(self) -> int:
        return max(1, min(_OPENING, self.count // 2))

    @property
    def _recent(self) -> int:
        return max(1, min(_NOW, self.count // 3))

    def state_dict(self) -> dict[str, Any]:
        """The values kept, the noise and the count."""
        return {
            "count": self.count,
            "levels": [self.mean, self._last, self._square, self._product, self._step],
            "unit": self.unit,
            "opening": list(self._opening),
            "now": list(self._now),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.count, self.unit = int(state["count"]), bool(state["unit"])
        self.mean, self._last, self._square, self._product, self._step = (float(x) for x in state["levels"])
        self._opening = [float(x) for x in state["opening"]]
        self.opening = _mean(self._opening[: self._opened])
        self._now = deque((float(x) for x in state["now"]), maxlen=_NOW)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
