"""How far two sides may lie apart by chance: from the spread over seeds, or from a run's own noise.

With seeds the distance of the sides' means is set against Student's t of the spread between the runs of a side, pooled
over the sides and moderated over time (a spread that happens to vanish for some rows is drawn to the usual one, as in
Smyth 2004, doi:10.2202/1544-6115.1027). How many stretches of a run are independent of each other, which is 1 where one
seed is luckier from the first row to the last, is estimated from the runs: it gives the degrees of freedom, and the
number of looks that the level is divided by.

With one run a side nothing is known of seeds: the band is four times the noise of single rows around the run's own
course, widened where the rows remember each other. Two seeds of the same settings may leave it too
(`benchmarks/compare_runs.py` says how often); it says where two runs parted, not whether the change between them is the
cause.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlwatch.observation import FloatArray

Kind = Literal["seeds", "own noise"]

LEVEL = 0.003
"""False partings a signal, in runs of the same settings, that the band of seeds allows."""

LOCAL = 4.0
"""Standard deviations of a row's noise that make the band where there are no seeds."""

SAME = 1e-3
"""Share of a signal's size below which no distance counts: logs are rounded."""

_PRIOR = 4.0
_MAD = 1.4826
_MOST_MEMORY = 0.9


@dataclass(frozen=True, slots=True)
class Band:
    """The sides and what lies between them, on the scale they were compared on; all of shape (n,).

    Attributes:
        kind: what the width comes from.
        a, b: mean of each side, smoothed over `width` points.
        limit: the distance of a and b that chance explains.
        noise: the standard deviation that effects are counted in: between seeds, else of single rows.
    """

    kind: Kind
    a: FloatArray
    b: FloatArray
    limit: FloatArray
    noise: float
    width: int

    @property
    def outside(self) -> FloatArray:
        """-1, 0 or 1 a point: b is below, within or above what chance explains."""
        away = self.b - self.a
        return np.where(np.abs(away) > self.limit, np.sign(away), 0.0)


def band_of(a: FloatArray, b: FloatArray, one_seed: bool = False) -> Band:
    """The band of two sides.

    Args:
        a, b: finite values, shape (runs of the side, n).
        one_seed: two runs that are exactly equal at first: no luck of a seed lies between them.

    Raises:
        ModuleNotFoundError: there are seeds, and SciPy is missing.
    """
    n = a.shape[1]
    width = max(1, min(50, n // 30))
    means = smooth(a.mean(axis=0), width), smooth(b.mean(axis=0), width)
    floor = SAME * float(np.median(np.abs(np.concatenate((a, b)))))
    free = a.shape[0] + b.shape[0] - 2
    if free < 2:
        (noise_a, memory_a), (noise_b, memory_b) = own_noise(a), own_noise(b)
        # The lesser memory: what a log averages it averages in both, but a break makes one side's rows alike.
        noise = float(np.hypot(noise_a, noise_b)) * (1.0 if one_seed else min(memory_a, memory_b))
        return Band("own noise", *means, np.full(n, max(LOCAL * noise, floor)), noise / np.sqrt(2), width)
    away = np.vstack([_apart(side, width) for side in (a, b)])
    spread, looks = _spread(away, free)
    share = 1.0 / a.shape[0] + 1.0 / b.shape[0]
    limit = _quantile(1.0 - LEVEL / (2.0 * looks), free * looks) * np.sqrt(spread * share)
    return Band("seeds", *means, np.maximum(limit, floor), float(np.sqrt(np.mean(spread))), width)


def _apart(side: FloatArray, width: int) -> FloatArray:
    """What each run of a side has over the mean of the side, smoothed; shape (runs, n)."""
    smoothed = np.array([smooth(run, width) for run in side])
    return np.asarray(smoothed - smoothed.mean(axis=0))


def _spread(away: FloatArray, free: int) -> tuple[FloatArray, float]:
    """Variance between runs at each point, shape (n,), and how many stretches of the run count as independent."""
    n = away.shape[1]
    each = (away**2).sum(axis=0) / free
    usual = float(each.mean())
    local = smooth(each, max(3, n // 10))
    gram = away @ away.T / free
    total, squares = float(np.trace(gram)), float((gram**2).sum())
    # Unbiased for the trace of the squared covariance over time (Bai & Saranadasa 1996); 1 look: an offset for good.
    true = (squares - total**2 / free) * free**2 / ((free - 1.0) * (free + 2.0))
    looks = total**2 / true if true > 0.0 else float(n)
    return (free * local + _PRIOR * usual) / (free + _PRIOR), float(np.clip(looks, 1.0, n))


def own_noise(side: FloatArray) -> tuple[float, float]:
    """Deviation of single rows around a run's own course, robust, and the memory of the rows; medians over the runs."""
    n = side.shape[1]
    window = max(5, n // 3) | 1
    found = []
    for run in side:
        away = run - smooth(run, window)
        robust = _MAD * float(np.median(np.abs(away)))
        scale = robust or float(away.std())
        found.append((scale * np.sqrt(window / (window - 1)), _memory(away)))
    scale, memory = np.median(found, axis=0)
    return float(scale), float(memory)


def _memory(away: FloatArray) -> float:
    """How much further than its rows a level wanders that remembers them: a mean of the last 100 episodes, say."""
    largest = float(np.abs(away).max())
    if not 0.0 < largest < np.inf:
        return 1.0
    scaled = away / largest
    lag = min(_MOST_MEMORY, max(0.0, float(scaled[1:] @ scaled[:-1]) / float(scaled @ scaled)))
    return float(np.sqrt((1.0 + lag) / (1.0 - lag)))


def smooth(values: FloatArray, width: int) -> FloatArray:
    """Centred moving mean over `width` points, over fewer at the ends; shape (n,)."""
    if width < 2:
        return values
    half = width // 2
    total = np.concatenate(([0.0], np.cumsum(values)))
    places = np.arange(values.size)
    begin, end = np.maximum(places - half, 0), np.minimum(places + half + 1, values.size)
    return np.asarray((total[end] - total[begin]) / (end - begin))


def _quantile(level: float, free: float) -> float:
    """Of Student's t."""
    try:
        from scipy.special import stdtrit
    except ModuleNotFoundError as error:
        sentence = "comparing seeds needs SciPy: pip install 'rlwatch[stats]'"
        raise ModuleNotFoundError(sentence, name=error.name) from None
    return float(stdtrit(free, level))
