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
    """Whether reading the value, a tensor or a list of tensors, would make the host wait."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    return is_tensor(first) and not first.is_cpu


def joined(value: Any) -> Any:
    """A list of one-element tensors as one tensor, on their device; anything else as it is."""
    if isinstance(value, (list, tuple)) and value and is_tensor(value[0]):
        import torch

        return torch.stack([item.detach().reshape(()) for item in value])
    return value


def is_single(value: Any) -> bool:
    """Whether the value is one number: a Python, NumPy or 0-d one."""
    return isinstance(value, (int, float, np.number)) or getattr(value, "ndim", 1) == 0


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
        array = np.array(value, dtype=np.float64).reshape(-1)  # None becomes NaN
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
    if is_single(value):
        raise UnusableError("must hold one value a sample, got one number")
    try:
        value = joined(value)
        array = np.array(to_host(value) if is_tensor(value) else value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise UnusableError(f"must be an array of numbers, got {_shown(value)}") from None
    if array.ndim == 0 and not is_tensor(value):
        raise UnusableError(f"must be an array of numbers, got {_shown(value)}")
    return array.reshape(-1) if array.size else None


def as_ids(value: Any) -> FloatArray:
    """Group ids, numbers or texts, as numbers: samples of one group have the same."""
    try:
        numbers = as_array(value)
    except UnusableError:
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise
        _, inverse = np.unique([str(item) for item in value], return_inverse=True)
        numbers = inverse.astype(np.float64)
    return np.empty(0) if numbers is None else numbers


def as_texts(value: Any) -> list[str]:
    """Completions or prompts as texts; of the conversational form, the content of the last message."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise UnusableError(f"must be a list of texts, got {_shown(value)}")
    return [_text(item) for item in value]


def _text(item: Any) -> str:
    if isinstance(item, list) and item and isinstance(item[-1], Mapping):
        return str(item[-1].get("content") or "")
    return item if isinstance(item, str) else str(item)


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"
