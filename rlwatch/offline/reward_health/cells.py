"""The cells of a sample: as numbers and texts, dicts of components flattened."""

from __future__ import annotations

import json
from typing import Any

from rlwatch.offline.reward_health.reading import Sample
from rlwatch.values import as_texts

_LARGEST = 1e100
"""From here on a number counts as infinite: its square would be."""

_SNIPPET = 160


def flattened(sample: Sample) -> Sample:
    """The columns of a sample, dicts of components as `components/NAME`."""
    flat: Sample = {}
    for name, value in sample.items():
        if isinstance(value, dict):
            flat |= {f"{name}/{inner}": each for inner, each in value.items()}
        else:
            flat[str(name)] = value
    return flat


def number(value: Any) -> tuple[float, bool]:
    """A cell as a float, NaN where it is empty or no number; and whether it is a number that is not finite."""
    if value is None or isinstance(value, list | dict | bytes):
        return float("nan"), False
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan"), False
    return (found, False) if abs(found) < _LARGEST else (float("nan"), True)


def text(value: Any) -> str:
    """A prompt or a completion as one text; of messages the content of the last."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and not (value and isinstance(value[-1], dict)):
        return json.dumps(value, default=str)
    return as_texts([value])[0]


def snippet(text: str) -> str:
    """How a text ends, on one line."""
    line = " ".join(text[-4 * _SNIPPET :].split())
    return line if len(line) <= _SNIPPET else f"...{line[-_SNIPPET:]}"
