"""One signal of two sides: did they part, when, and how far are they apart at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from rlwatch.observation import POISONS, FloatArray
from rlwatch.offline.compare.align import Aligned, align
from rlwatch.offline.compare.band import Band, band_of
from rlwatch.offline.compare.links import COUNTERS, LINK_OF
from rlwatch.offline.compare.series import Column, Run

Verdict = Literal["parted", "together", "not compared"]

DEADLY = POISONS | {"kl", "approx_kl", "ratio"}
"""Signals that are not finite only where something broke; an explained variance, say, may be NaN for a good reason."""

_LOG_RANGE = 4.0


@dataclass
class Difference:
    """What was found of one signal.

    Attributes:
        signal, link: its name, and the link of the loop it belongs to.
        verdict: `together` means that no parting was found, not that there is none.
        why: why it was not compared; else "".
        step: where the sides part.
        earliest: the step from which they may have, the smoothing being what it is.
        rejoined: the first step after it from which they lie together again to the end.
        equal_until: one run a side: the last step up to which both logged exactly the same numbers.
        differs_at: the first step after it; None where the signal is equal to the end.
        nonfinite: side, runs and first step of values that are not finite, a sentence.
        band: what the noise was taken from.
        log: compared as logarithms: positive, over more than a factor of four.
        rows: points compared; `averaged` where several rows of a run make one.
        end_a, end_b: the mean over the last tenth of the points.
        effect: b less a at the end, in standard deviations of the band's noise; None where there is none.
        interval: 95 % of b less a at the end, from the seeds; None without.
        picture: what is drawn.
    """

    signal: str
    link: str
    verdict: Verdict = "together"
    why: str = ""
    step: int | None = None
    earliest: float = -math.inf
    rejoined: int | None = None
    equal_until: int | None = None
    differs_at: int | None = None
    nonfinite: str = ""
    band: str = ""
    log: bool = False
    rows: int = 0
    averaged: bool = False
    end_a: float = math.nan
    end_b: float = math.nan
    effect: float | None = None
    interval: tuple[float, float] | None = None
    notes: list[str] = field(default_factory=list)
    picture: tuple[Aligned, Band] | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON values; what does not apply is null."""
        told = self.verdict != "not compared"
        return {
            "signal": self.signal,
            "link": self.link,
            "verdict": self.verdict,
            "why": self.why or None,
            "step": self.step,
            "earliest": self.earliest if math.isfinite(self.earliest) else None,
            "rejoined": self.rejoined,
            "equal_until": self.equal_until,
            "differs_at": self.differs_at,
            "nonfinite": self.nonfinite or None,
            "band": self.band or None,
            "scale": ("log" if self.log else "linear") if told and self.band else None,
            "rows": self.rows,
            "end": {"a": self.end_a, "b": self.end_b, "difference": self.end_b - self.end_a} if self.rows else None,
            "effect": self.effect,
            "interval": list(self.interval) if self.interval else None,
            "notes": self.notes,
        }


def difference(signal: str, a: Sequence[Run], b: Sequence[Run], names: tuple[str, str] = ("A", "B")) -> Difference:
    """Compares one signal of two sides, of one or more runs each."""
    found = Difference(signal, LINK_OF.get(signal, "unknown"))
    has = [[run for run in side if signal in run.columns] for side in (a, b)]
    found.why = _why_not(signal, has, names)
    if found.why:
        found.verdict = "not compared"
        return found
    for side, those, name in zip((a, b), has, names, strict=True):
        if len(those) < len(side):
            found.notes.append(f"only {len(those)} of {len(side)} runs of {name} have it")
    columns = [[run.columns[signal] for run in side] for side in has]
    bad = _nonfinite(found, columns, names)
    aligned = align([*columns[0], *columns[1]])
    if aligned.why_not:
        found.verdict, found.why = ("parted", "") if bad is not None else ("not compared", aligned.why_not)
        return found
    _compare(found, aligned, len(columns[0]))
    if bad is None:
        return found
    if found.equal_until is not None and (found.differs_at is None or found.differs_at > bad):
        found.differs_at = bad
    if found.step is None or found.step > bad:
        found.verdict, found.step, found.earliest, found.rejoined = "parted", bad, bad, None
    return found


def _why_not(signal: str, has: Sequence[Sequence[Run]], names: tuple[str, str]) -> str:
    if not has[0] and not has[1]:
        return "neither side has it"
    if not has[0] or not has[1]:
        return f"only {names[0] if has[0] else names[1]} has it"
    return "it is a running total" if signal in COUNTERS else ""


def _nonfinite(found: Difference, columns: Sequence[Sequence[Column]], names: tuple[str, str]) -> int | None:
    """The step from which a deadly signal of one side alone is not finite."""
    first = [[column.first_bad for column in side if column.first_bad is not None] for side in columns]
    said = [
        f"not finite in {name} from step {min(bad)}" + (f" ({len(bad)} of {len(side)} runs)" if len(side) > 1 else "")
        for name, side, bad in zip(names, columns, first, strict=True)
        if bad
    ]
    found.nonfinite = ", ".join(said)
    alone = len(said) == 1 and found.signal in DEADLY
    if alone:
        found.step = found.earliest = min(first[0] or first[1])
    return int(found.step) if alone and found.step is not None else None


def _compare(found: Difference, aligned: Aligned, of_a: int) -> None:
    raw = aligned.values
    found.log = _spans(raw)
    values = np.log(raw) if found.log else raw
    equal = _equal(found, aligned)
    band = band_of(values[:of_a], values[of_a:], one_seed=equal > 0)
    found.band, found.rows, found.averaged = band.kind, int(aligned.steps.size), aligned.averaged
    found.picture = (aligned, band)
    outside = band.outside
    begin = persistent(outside)
    found.verdict, found.step = "together", None
    if begin is not None:
        # The smoothed sides part early by half a window: the rows themselves, and where they are equal, know better.
        away = np.abs(values[of_a:].mean(axis=0) - values[:of_a].mean(axis=0))
        clear = np.flatnonzero(away[begin:] > band.limit[begin:])
        place = max(begin + int(clear[0]) if clear.size else begin, min(equal, outside.size - 1))
        found.verdict, found.step = "parted", int(aligned.steps[place])
        found.earliest = float(aligned.steps[max(0, begin - band.width, min(equal, place))])
        last = np.flatnonzero(outside)[-1]
        if aligned.steps.size - 1 - last >= lasting(outside.size):
            found.rejoined = int(aligned.steps[last + 1])
    _end(found, raw, values, of_a, band)


def _equal(found: Difference, aligned: Aligned) -> int:
    """Points up to which two runs logged exactly the same numbers; 0 where they are too few to be no accident."""
    raw = aligned.values
    if raw.shape[0] != 2 or aligned.averaged:
        return 0
    differs = np.flatnonzero(raw[0] != raw[1])
    equal = int(differs[0]) if differs.size else raw.shape[1]
    if equal < lasting(raw.shape[1]):
        return 0
    found.equal_until = int(aligned.steps[equal - 1])
    if differs.size:
        found.differs_at = int(aligned.steps[equal])
    return equal


def _end(found: Difference, raw: FloatArray, values: FloatArray, of_a: int, band: Band) -> None:
    tail = max(3, raw.shape[1] // 10)
    ends, scaled = raw[:, -tail:].mean(axis=1), values[:, -tail:].mean(axis=1)
    a, b = ends[:of_a], ends[of_a:]
    found.end_a, found.end_b = float(a.mean()), float(b.mean())
    if band.noise > 0.0:
        found.effect = float(scaled[of_a:].mean() - scaled[:of_a].mean()) / band.noise
    if band.kind == "seeds":
        from scipy.special import stdtrit

        free = ends.size - 2
        pooled = float(((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()) / free
        reach = float(stdtrit(free, 0.975)) * math.sqrt(pooled * (1.0 / a.size + 1.0 / b.size))
        apart = found.end_b - found.end_a
        found.interval = (apart - reach, apart + reach)


def _spans(values: FloatArray) -> bool:
    """Whether a signal is positive and spans a factor that a linear scale would hide."""
    if not (values > 0.0).all():
        return False
    low, high = np.percentile(values, (5, 95))
    return bool(high > _LOG_RANGE * low)


def persistent(outside: FloatArray) -> int | None:
    """The first point from which the sides lie apart, on the same side of each other, for a twentieth of the points.

    Three points at least; a stretch that the end cuts short does not count.

    Args:
        outside: -1, 0 or 1 a point, shape (n,).
    """
    least = lasting(outside.size)
    begin, sign = 0, 0.0
    for place, value in enumerate(outside):
        if value != sign:
            begin, sign = place, value
        if sign and place - begin + 1 >= least:
            return begin
    return None


def lasting(n: int) -> int:
    """Points in a row that make a parting, of `n`."""
    return max(3, math.ceil(n / 20))
