"""Numbers in words: counts, durations, and the names of what is not finite."""

from __future__ import annotations

import math

NONFINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""How a record names a number that is not finite -> the number."""


def nonfinite_name(value: float) -> str:
    """The name, as in `NONFINITE`, of a number that is not finite."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def counted(count: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "alert"), counted(1200, "step")
    ('1 alert', '1,200 steps')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """A time in the unit that one would say it in.

    >>> duration(90), duration(600), duration(9000)
    ('90 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
