"""Strict JSON from whatever a run carries.

RFC 8259 knows no NaN and no infinity: they are written as the strings "NaN", "Infinity" and "-Infinity", at
every level. NumPy values become plain numbers, and what JSON has no word for becomes text. The result is
ASCII, so no reader splits a line at a stray U+2028 or stumbles over a lone surrogate.
"""

from __future__ import annotations

import datetime
import enum
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

import numpy as np

from rlwatch.wording import nonfinite_name

MAX_DEPTH = 12
MAX_ITEMS = 1000
MAX_TEXT = 20_000

_strict = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def encode_line(record: Mapping[str, Any]) -> bytes:
    """One line of JSONL. As a rule `record` holds plain finite values, and takes the fast path."""
    try:
        text = _strict(record)
        if "\\ud" in text:  # half of a surrogate pair may stand alone, which strict readers refuse
            text = _strict(clean(record))
    except (TypeError, ValueError, RecursionError):
        text = _strict(clean(record))
    return text.encode("ascii") + b"\n"


def encode_pretty(record: Mapping[str, Any]) -> bytes:
    """An indented JSON document, for files that people open."""
    return json.dumps(clean(record), allow_nan=False, indent=2).encode("ascii") + b"\n"


def clean(value: Any, depth: int = 0) -> Any:
    """A JSON value that stands for `value`: a copy, nothing in it is shared with the original.

    Lists longer than MAX_ITEMS, texts longer than MAX_TEXT and nesting deeper than MAX_DEPTH are cut, and
    the cut is visible.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return clean(value.value, depth + 1)
    for kind, convert in _SIMPLE:
        if isinstance(value, kind):
            return convert(value)
    if depth >= MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return _items(((_key(key), clean(item, depth + 1)) for key, item in value.items()), len(value))
    if isinstance(value, np.ndarray):
        short = value if value.size <= MAX_ITEMS else value.ravel()[: MAX_ITEMS + 1]
        return clean(short.tolist(), depth)
    if isinstance(value, list | tuple | Set):
        return _list(value, depth)
    return _words(value)


def _items(pairs: Iterable[tuple[str, Any]], size: int) -> dict[str, Any]:
    kept = {key: item for (key, item), _ in zip(pairs, range(MAX_ITEMS), strict=False)}
    return kept if size <= MAX_ITEMS else kept | {"...": f"{size - MAX_ITEMS} more"}


def _list(values: list[Any] | tuple[Any, ...] | Set[Any], depth: int) -> list[Any]:
    kept = [clean(item, depth + 1) for item, _ in zip(values, range(MAX_ITEMS), strict=False)]
    return kept if len(values) <= MAX_ITEMS else [*kept, "..."]


def _key(key: Any) -> str:
    return _text(key) if isinstance(key, str) else str(clean(key, MAX_DEPTH))


def _text(value: str) -> str:
    plain = str.__str__(value)  # a subclass may say something else about itself
    if len(plain) > MAX_TEXT:
        plain = f"{plain[:MAX_TEXT]}... [{len(plain) - MAX_TEXT} more characters]"
    return plain if plain.isascii() else plain.encode("utf-8", "replace").decode("utf-8")


def _float(value: float) -> float | str:
    plain = float(value)
    if math.isfinite(plain):
        return plain
    return nonfinite_name(plain)


def _int(value: int) -> int | str:
    plain = int(value)
    if plain.bit_length() <= 1024:
        return plain
    return "Infinity" if plain > 0 else "-Infinity"


def _words(value: Any) -> str:
    # The text of a tensor waits for its device.
    if hasattr(value, "device"):
        return f"<{type(value).__name__}>"
    try:
        return _text(str(value))
    except Exception:  # noqa: BLE001 - someone else's __str__
        return f"<{type(value).__name__}>"


_SIMPLE: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (str, _text),
    (float, _float),
    (int, _int),
    (np.bool_, bool),
    (np.integer, _int),
    (np.floating, _float),
    (os.PathLike, lambda value: _text(os.fsdecode(value))),
    ((datetime.datetime, datetime.date), lambda value: str(value.isoformat())),
)
