"""Rows of a record become columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from rlwatch.report.data import RunData
from rlwatch.signals import SIGNALS
from rlwatch.sinks.records import NOT_SIGNALS
from rlwatch.wording import NONFINITE, nonfinite_name


class Columns:
    """Gathers rows into columns; of a step that comes again, as after a resume, the later row counts."""

    def __init__(self) -> None:
        self._rows: dict[int, Mapping[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, record: Mapping[str, Any]) -> bool:
        """Take a line of `steps.jsonl`; False if it names no step."""
        step = record.get("step")
        if not isinstance(step, int) or isinstance(step, bool) or abs(step) > 1 << 53:
            return False
        self._rows[step] = record
        return True

    def fill(self, name: str) -> RunData:
        """The run so far."""
        order = sorted(self._rows)
        steps = np.array(order, dtype=np.int64)
        times = np.full(len(order), np.nan)
        places: dict[str, tuple[list[int], list[float]]] = {}
        run = RunData(name, steps, times, {})
        for row, step in enumerate(order):
            record = self._rows[step]
            if isinstance(time := record.get("time"), float | int):
                times[row] = time
            for key, value in _numbers(record):
                if math.isfinite(value):
                    at, values = places.setdefault(key, ([], []))
                    at.append(row)
                    values.append(value)
                else:
                    run.nonfinite.setdefault(key, []).append((step, nonfinite_name(value)))
            _take_samples(run, step, record.get("samples"))
        for key in {**places, **run.nonfinite}:
            column = run.signals[key] = np.full(len(order), np.nan)
            if key in places:
                at, values = places[key]
                column[at] = values
        run.signals = dict(sorted(run.signals.items(), key=lambda item: _place(item[0])))
        return run


def _numbers(record: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    for key, value in record.items():
        if key not in NOT_SIGNALS and (number := _number(value)) is not None:
            yield key, number
    extra = record.get("extra")
    for key, value in extra.items() if isinstance(extra, Mapping) else ():
        if key not in record and (number := _number(value)) is not None:
            yield key, number


def _number(value: Any) -> float | None:
    if isinstance(value, float):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if value.bit_length() < 1024 else math.inf
    return NONFINITE.get(value) if isinstance(value, str) else None


def _take_samples(run: RunData, step: int, samples: Any) -> None:
    if not isinstance(samples, Mapping):
        return
    for name in ("rewards", "response_lengths"):
        if isinstance(summary := samples.get(name), Mapping):
            run.shapes.setdefault(name, []).append((step, summary))
    pairs = samples.get("pairs")
    for pair in pairs if isinstance(pairs, list) else ():
        if isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, float | int) for one in pair):
            run.pairs.append((step, float(pair[0]), float(pair[1])))


def _place(name: str) -> tuple[int, str]:
    """Signals in the order of the vocabulary, then names that no alias knows."""
    return (_ORDER.get(name, len(_ORDER)), name)


_ORDER = {name: place for place, name in enumerate(SIGNALS)}
