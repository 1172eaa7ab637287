"""Settings that lie beside a run, as JSON or YAML: bounded in size, also once their references are followed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LARGEST = 8 * 2**20
"""Bytes of a file that is read."""

_MOST = 200_000


def load(path: Path) -> dict[str, Any]:
    """The object in a `.json`, `.yaml` or `.yml` file; {} where there is none, or it is too large to be settings.

    A few lines of YAML whose references name each other stand for billions of values: those are counted before
    anybody walks over them.
    """
    try:
        if path.stat().st_size > LARGEST:
            return {}
        text = path.read_text(encoding="utf-8", errors="replace")
        values = json.loads(text) if path.suffix == ".json" else _yaml(text)
        return values if isinstance(values, dict) and _size(values, {}) <= _MOST else {}
    except (OSError, ValueError, RecursionError):
        return {}


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError("no YAML") from error


def _size(value: Any, known: dict[int, float]) -> float:
    """How many values it stands for; infinitely many if it holds itself."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = float("inf")
        inner = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(each, known) for each in inner)
    return known[id(value)]
