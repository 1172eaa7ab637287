"""One logged value as a float, an array or texts; `UnusableError` says in words why it cannot be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rlwatch.deferred import is_tensor, to_host
from rlwatch.observation import FloatArray


class UnusableError(ValueError):
    """A value of the wrong kind; the message is the end of a sentence about its key."""


def on_accelerator(value: Any) -> bool:
    """Whether reading the value would make the host wait."""
    return is_tensor(value) and value.device.type != "cpu"


def as_number(value: Any) -> float | FloatArray | None:
    """A float from an int, a NumPy or torch scalar or a text like 'NaN'; the array if it holds several; None if none.

    Raises:
        UnusableError: it is no number at all.
    """
    try:
        if is_tensor(value):
            value = to_host(value)
        if isinstance(value, (str, int, float, np.number)):
            return float(value)
        array = np.array(_none_as_nan(value), dtype=np.float64).reshape(-1)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        raise UnusableError(f"must be one number a step, got {_shown(value)}") from None
    if array.size > 1:
        return array
    return float(array[0]) if array.size else None


def as_array(value: Any) -> FloatArray | None:
    """A float64 array of shape (n,), copied, None entries as NaN; None when it is empty.

    Raises:
        UnusableError: it does not hold numbers, or is a single one.
    """
    try:
        single = not getattr(value, "ndim", 1)
        array = np.array(to_host(value) if is_tensor(value) else _none_as_nan(value), dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise UnusableError(f"must be an array of numbers, got {_shown(value)}") from None
    if single or (array.ndim == 0 and not is_tensor(value)):
        raise UnusableError("must hold one value a sample, got one number")
    return array.reshape(-1) if array.size else None


def as_texts(value: Any) -> list[str]:
    """Completions or prompts as texts; of the conversational form, the content of the last message."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise UnusableError(f"must be a list of texts, got {_shown(value)}")
    return [_text(item) for item in value]


def _text(item: Any) -> str:
    if isinstance(item, list) and item and isinstance(item[-1], Mapping):
        return str(item[-1].get("content") or "")
    return item if isinstance(item, str) else str(item)


def _none_as_nan(value: Any) -> Any:
    """Reward functions may return None for a sample that they do not judge."""
    if isinstance(value, (list, tuple)) and any(item is None for item in value):
        return [math.nan if item is None else item for item in value]
    return value


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"
