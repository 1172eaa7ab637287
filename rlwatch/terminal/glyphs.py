"""What pictures in a terminal are made of, in Unicode or, where the encoding lacks it, in ASCII."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

_Value = TypeVar("_Value")


class Glyphs(NamedTuple):
    """Characters of a picture; `states` has one for each word of a detector's state."""

    levels: str
    nonfinite: str
    alert: str
    dot: str
    states: dict[str, str]


UNICODE = Glyphs(
    "▁▂▃▄▅▆▇█", "✗", "▲", "·",
    {"armed": "●", "warming": "◌", "starved": "○", "off": "-", "failed": "?", "warning": "▲", "critical": "✖"},
)  # fmt: skip
ASCII = Glyphs(
    "_.-~=+*#", "x", "^", "-",
    {"armed": "+", "warming": "~", "starved": "o", "off": "-", "failed": "?", "warning": "!", "critical": "X"},
)  # fmt: skip


_SPIKE = 6.0
"""Median deviations from the median: four standard deviations of a normal value."""


def glyphs_for(encoding: str) -> Glyphs:
    """The glyphs that text of this encoding can carry."""
    try:
        "".join((*UNICODE[:4], *UNICODE.states.values())).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


def sparkline(values: Sequence[float | None], width: int, glyphs: Glyphs) -> str:
    """A line of at most `width` characters; None, a row without the value, leaves a gap where it stands alone.

    Where a character stands for several values it shows their median, but a spike (far from the median of all, by the
    spread of all) is never lost to it, and a value that is not finite wins.
    """
    finite = [value for value in values if value is not None and math.isfinite(value)]
    middle = statistics.median(finite) if finite else 0.0
    usual = _SPIKE * statistics.median(abs(value - middle) for value in finite) if finite else 0.0
    parts = ([value for value in part if value is not None] for part in columns(values, width))
    shown = [_shown(part, middle, usual) if part else None for part in parts]
    there = [value for value in shown if value is not None and math.isfinite(value)] or [0.0]
    low, high = min(there), max(there)
    return "".join(" " if value is None else _glyph(value, low, high, glyphs) for value in shown)


def columns(values: Sequence[_Value], width: int) -> list[Sequence[_Value]]:
    """The values in `width` parts of equal size, or one each where they are fewer."""
    count = min(len(values), max(1, width))
    edges = [index * len(values) // count for index in range(count + 1)] if count else [0]
    return [values[start:end] for start, end in pairwise(edges)]


def marks(steps: Sequence[float], alerts: Collection[float], width: int, glyphs: Glyphs) -> str:
    """A line below sparklines of these steps: a mark where an alert was."""
    return "".join(
        glyphs.alert if any(step in alerts for step in part) else " " for part in columns(steps, width)
    ).rstrip()


def _shown(part: Sequence[float], middle: float, usual: float) -> float:
    far = max(part, key=lambda value: abs(value - middle) if math.isfinite(value) else math.inf)
    return far if not math.isfinite(far) or abs(far - middle) > usual else statistics.median_low(part)


def _glyph(value: float, low: float, high: float, glyphs: Glyphs) -> str:
    if not math.isfinite(value):
        return glyphs.nonfinite
    if high <= low:
        return glyphs.levels[0]
    # Halved, as the difference of two finite numbers may be infinite.
    share = (value / 2 - low / 2) / (high / 2 - low / 2)
    return glyphs.levels[min(len(glyphs.levels) - 1, int(share * len(glyphs.levels)))]
