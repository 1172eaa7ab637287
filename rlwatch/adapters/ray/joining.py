"""The rows that several reporters gave for one step, as one row in canonical names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlwatch.intake import DERIVED

LARGEST = frozenset(
    (
        *("step_time", "generation_time", "update_time", "memory_allocated", "memory_reserved", "memory_host"),
        *("reward_max", "advantage_max", "ratio_max", "response_length_max", "staleness_max", "is_weight_max"),
        *("rollout_logprob_diff_max", "rollout_prob_diff_max"),
    )
)
SMALLEST = frozenset(("reward_min", "advantage_min", "ratio_min", "response_length_min", "is_weight_min"))
SUMMED = frozenset(("num_tokens", "step_tokens", "env_steps", "env_steps_per_second", "tokens_per_second"))
"""Signals that are not averaged: the slowest decides the time of a step, and work adds up."""


def join(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One row from those of several reporters (name -> row), the names in alphabetical order.

    Numbers are averaged, but for `LARGEST`, `SMALLEST` and `SUMMED`; a NaN in one of them shows. Sample arrays and
    texts are put one behind the other, group ids made distinct by their reporter. Mean and spread of samples that
    several gave are left to be computed from all of them.
    """
    order = sorted(rows)
    if len(order) == 1:
        return dict(rows[order[0]])
    joined: dict[str, Any] = {}
    several: set[str | None] = set()
    for name in dict.fromkeys(name for reporter in order for name in rows[reporter]):
        having = [reporter for reporter in order if name in rows[reporter]]
        values = [rows[reporter][name] for reporter in having]
        if _is_samples(values[0]):
            joined[name] = _ids(having, values) if name == "group_ids" else _samples(values)
            several.update(DERIVED.get(name, ()) if len(having) > 1 else ())
        else:
            joined[name] = _number(name, values)
    return {name: value for name, value in joined.items() if name not in several}


def _is_samples(value: Any) -> bool:
    return isinstance(value, (np.ndarray, list, Mapping))


def _number(name: str, values: Sequence[float]) -> float:
    with np.errstate(all="ignore"):
        numbers = np.asarray(values, dtype=np.float64)
        if name in LARGEST:
            return float(numbers.max())
        if name in SMALLEST:
            return float(numbers.min())
        return float(numbers.sum() if name in SUMMED else numbers.mean())


def _samples(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Mapping):
        shared = [part for part in values[0] if all(part in value for value in values)]
        return {part: np.concatenate([np.asarray(value[part]) for value in values]) for part in shared}
    if isinstance(values[0], list):
        return [text for value in values for text in value]
    return np.concatenate([np.asarray(value).reshape(-1) for value in values])


def _ids(reporters: Sequence[str], values: Sequence[Any]) -> list[str]:
    return [f"{reporter}/{number}" for reporter, ids in zip(reporters, values, strict=True) for number in ids]
