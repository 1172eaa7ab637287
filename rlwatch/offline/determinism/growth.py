"""How a difference grows once it is there.

Training is a map of one state to the next. Where it amplifies, two trajectories that start a rounding error apart part
exponentially, at the rate of the largest Lyapunov exponent, until they are as far apart as unrelated ones. The rate is
the slope of the line through the logarithm of the distance, as Rosenstein, Collins and De Luca (Physica D 65, 1993)
fit it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Course = Literal["exponential", "jump", "steady", "heals", "short"]

_SATURATED = 0.3
"""Share of the largest distance from which on growth has ended: no point beyond it enters the fit."""

_FEWEST = 5
_GROWN = 10.0  # times the first distance, below which nothing has grown
_FITS = 0.6  # of the variance of the logarithm that a line must explain


@dataclass(frozen=True, slots=True)
class Growth:
    """The course of a difference.

    Attributes:
        course: `exponential`; `jump`, at once as large as it gets; `steady`, neither; `heals`, the last tenth of the
            steps is equal again; `short`, too few steps to tell.
        rate: of the logarithm of the distance, per step, of `exponential`.
        doubling: steps in which the distance doubles.
        fit: share of the variance that the line explains, 0 to 1.
        steps: over which it was fitted.
        times: the largest distance over the first.
    """

    course: Course
    times: float = 1.0
    rate: float = 0.0
    doubling: float = 0.0
    fit: float = 0.0
    steps: int = 0

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def sentence(self) -> str:
        """In words."""
        times = f"{self.times:.3g} times its first size"
        match self.course:
            case "exponential":
                return (
                    f"it grows exponentially: it doubles every {self.doubling:.3g} steps "
                    f"(rate {self.rate:.3g} a step, R2 {self.fit:.2f} over {self.steps} steps), to {times}"
                )
            case "jump":
                return f"it is there at once: it never becomes more than {times}"
            case "heals":
                return "the values become equal again: the difference is not in what training carries on"
            case "steady":
                return f"it grows, but not exponentially, to {times}"
        return "too few steps follow to tell how it grows"


def growth(distances: Sequence[tuple[int, float]]) -> Growth:
    """The course of (step, distance) pairs, the first of which is the first difference."""
    if len(distances) < _FEWEST:
        return Growth("short")
    tail = distances[-max(2, len(distances) // 10) :]
    if all(x == 0 for _, x in tail):
        return Growth("heals")
    top = max(x for _, x in distances)
    first = next(x for _, x in distances if x > 0)
    if top < _GROWN * first:
        return Growth("jump", top / first)
    rising: list[tuple[int, float]] = []
    for step, x in distances:
        if x > 0:
            rising.append((step, math.log(x)))
        if x >= _SATURATED * top:
            break
    if len(rising) < _FEWEST or rising[0][0] == rising[-1][0]:
        return Growth("steady", top / first)
    rate, fit = _line(rising)
    if rate <= 0 or fit < _FITS:
        return Growth("steady", top / first)
    return Growth("exponential", top / first, rate, math.log(2) / rate, fit, len(rising))


def _line(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Slope of the least-squares line, and the share of the variance that it explains."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    xx = sum((x - mean_x) ** 2 for x, _ in points)
    yy = sum((y - mean_y) ** 2 for _, y in points)
    xy = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return (xy / xx, xy * xy / (xx * yy)) if xx and yy else (0.0, 0.0)
