"""Where the series of several replicas part, and by how much."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from rlwatch.offline.series import Key, Series

Kind = Literal["value", "nan", "missing"]


class Tolerance(NamedTuple):
    """How far values may lie apart: their range within absolute + relative * the largest magnitude."""

    relative: float = 0.0
    absolute: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether only equal numbers pass."""
        return not (self.relative or self.absolute)


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first step at which a metric is not the same.

    Attributes:
        metric: its name.
        step, again: where; `again` counts the earlier times that the metric was logged at this step.
        row: how many values before were the same.
        kind: other `value`; not finite in some (`nan`); `missing` in some.
        values: replica -> value; None where it logged none.
        absolute: the range of the values; infinite but for kind `value`.
        relative: that, over the largest magnitude.
        ulps: that, in units of the last place of a float32, in which networks compute.
    """

    metric: str
    step: int
    again: int
    row: int
    kind: Kind
    values: dict[int, float | None]
    absolute: float
    relative: float
    ulps: float


@dataclass(frozen=True, slots=True)
class Compared:
    """What comparing one metric gave.

    Attributes:
        metric: its name.
        steps: values compared.
        constant: whether it is one and the same value throughout.
        digits: decimal digits that its values carry at most.
        nonfinite: steps at which it is NaN or infinite, the same in all.
        first: where it is not the same; None if it always is.
        largest: the largest range of finite values, at any step.
        distances: step and range of each common step from the first difference on, the finite ones.
    """

    metric: str
    steps: int
    constant: bool
    digits: int
    nonfinite: int
    first: Divergence | None
    largest: float
    distances: tuple[tuple[int, float], ...]


def compare(metric: str, replicas: Mapping[int, Series], tolerance: Tolerance, last: int | None = None) -> Compared:
    """Compares one metric, up to the step `last`."""
    keys = sorted({key for series in replicas.values() for key in series if last is None or key[0] <= last})
    first: Divergence | None = None
    largest, nonfinite = 0.0, 0
    distances: list[tuple[int, float]] = []
    for row, key in enumerate(keys):
        values = {number: series.get(key) for number, series in replicas.items()}
        kind, spread = _difference(list(values.values()), tolerance)
        if kind is not None and first is None:
            first = _divergence(metric, key, row, kind, values, spread)
        if math.isfinite(spread):
            largest = max(largest, spread)
            if first is not None:
                distances.append((key[0], spread))
        nonfinite += kind is None and not all(map(math.isfinite, _numbers(values.values())))
    seen = {repr(x) for series in replicas.values() for key, x in series.items() if last is None or key[0] <= last}
    return Compared(
        metric, len(keys), len(seen) == 1, max(map(_digits, seen), default=0), nonfinite, first, largest,
        tuple(distances),
    )  # fmt: skip


def _numbers(values: Iterable[float | None]) -> list[float]:
    return [x for x in values if x is not None]


def _difference(values: Sequence[float | None], tolerance: Tolerance) -> tuple[Kind | None, float]:
    """What kind of difference there is, None for none, and the range of the values."""
    numbers = _numbers(values)
    if len(numbers) < len(values):
        return "missing", math.inf
    if not all(map(math.isfinite, numbers)):
        return ("nan", math.inf) if len({repr(x) for x in numbers}) > 1 else (None, math.nan)
    spread = max(numbers) - min(numbers)
    limit = tolerance.absolute + tolerance.relative * max(map(abs, numbers))
    return ("value" if spread > limit else None), spread


def _divergence(
    metric: str, key: Key, row: int, kind: Kind, values: dict[int, float | None], spread: float
) -> Divergence:
    size = max((abs(x) for x in _numbers(values.values()) if math.isfinite(x)), default=0.0)
    relative = spread / size if size else math.inf
    with np.errstate(over="ignore"):
        place = float(np.spacing(np.float32(size)))
    ulps = spread / place if math.isfinite(place) else 0.0
    return Divergence(metric, key[0], key[1], row, kind, values, spread, relative, ulps)


def _digits(text: str) -> int:
    """Decimal digits of a number's shortest form: how finely it was logged."""
    mantissa = text.lower().partition("e")[0].lstrip("-").replace(".", "")
    return len(mantissa.strip("0")) if mantissa.isdecimal() else 0
