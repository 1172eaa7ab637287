"""How numbers and other people's text are shown on a page."""

from __future__ import annotations

import math
import re
from typing import Any

from rlwatch.wording import nonfinite_name

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e01ef]"
)
"""What a reader does not see, or what turns the text after it round: control, bidirectional, zero-width and tag
characters, and halves of surrogate pairs, which UTF-8 has no bytes for."""


def shown(text: Any, limit: int = 4000) -> str:
    """A text in which everything can be seen: what has no shape of its own stands as its number. Not yet escaped.

    >>> shown("pay \\u202etxt.exe")
    'pay [U+202E]txt.exe'
    """
    plain = str(text)
    if len(plain) > limit:
        plain = f"{plain[:limit]}... [{len(plain) - limit} more characters]"
    return _UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", plain.replace("\r\n", "\n"))


def number(value: Any) -> str:
    """A number in four digits or fewer, anything else as text.

    >>> number(0.00012345), number(1234567.0), number(3), number(float("nan"))
    ('0.0001234', '1.235e+06', '3', 'NaN')
    """
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**15 else f"{value:.4g}"
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return nonfinite_name(value)
    if value == int(value) and abs(value) < 100_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def value_text(value: Any, limit: int = 400) -> str:
    """A value of a record in one line."""
    if isinstance(value, list | tuple):
        text = ", ".join(value_text(one) for one in value[:12]) + (", ..." if len(value) > 12 else "")
    elif isinstance(value, dict):
        text = ", ".join(f"{name} {value_text(one)}" for name, one in list(value.items())[:12])
    else:
        text = number(value)
    return shown(text, limit)
